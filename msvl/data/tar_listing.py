"""One pass over a WebDataset tar of any origin: where its samples lie, and the tar's checksum."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msvl.data.captions import read_caption
from msvl.data.checksum import crc32
from msvl.data.identity import keyed_hash, text_hash
from msvl.data.index import IMAGE, MEMBERS, TEXT, record_type
from msvl.data.partial import Dropped
from msvl.data.storage import Location, open_location

IMAGES = ("jpg", "jpeg", "png", "webp")
SPLIT_NAME = re.compile(r"((?:.*/|)[^.]+)\.([^/]*)", re.DOTALL)
"""Key and extension, as webdataset splits names."""
PIECE = 1 << 24


@dataclass(frozen=True)
class Fields:
    """Which JSON fields name patient and study; None: the key does."""

    caption: str = "txt"
    patient: str | None = None
    study: str | None = None


@dataclass(frozen=True)
class TarListing:
    """What a tar holds."""

    file: str
    bytes: int
    sha256: str
    keys: list[str]
    records: np.ndarray
    """[n] index records, their keys not filled in; samples of a study are neighbours."""
    dropped: list[Dropped]
    damage: str
    """Why the tar could not be read to its end; empty when it could."""


@dataclass
class _Sample:
    key: str
    members: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Extension -> offset, size, CRC-32."""
    texts: dict[str, bytes] = field(default_factory=dict)


class _Stream:
    """A tar read from front to end, piece by piece, hashed on the way."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self.size = location.size()
        self.digest = hashlib.sha256()
        self._at = 0
        self._piece = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        parts = []
        while size > 0 and (self._piece or self._at < self.size):
            if not self._piece:
                self._piece = self._location.read_range(self._at, min(PIECE, self.size - self._at))
                self._at += len(self._piece)
                self.digest.update(self._piece)
            parts.append(self._piece[:size])
            self._piece = self._piece[size:]
            size -= len(parts[-1])
        return b"".join(parts)


def list_tar(file: str, fields: Fields) -> TarListing:
    """List a tar at a path or URL. Raises StorageError when it cannot be read."""
    stream = _Stream(open_location(file))
    samples: list[_Sample] = []
    damage = ""
    try:
        # A stream: every byte is read once, so that the checksum costs no second pass.
        with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                _add(samples, member, tar)
    except (tarfile.TarError, EOFError) as error:
        damage = str(error) or type(error).__name__
    while stream.read(PIECE):
        pass
    rows: list[tuple[str, np.ndarray]] = []
    dropped: list[Dropped] = []
    for sample in samples:
        try:
            rows.append((sample.key, _record(sample, fields)))
        except ValueError as error:
            dropped.append(Dropped(sample.key, sample.key, file, str(error)))
    # Stable: neighbours stay in the order of the tar.
    first = {
        study: row for row, study in reversed([(row, int(record["study"])) for row, (_, record) in enumerate(rows)])
    }
    rows.sort(key=lambda row: first[int(row[1]["study"])])
    return TarListing(
        file=file,
        bytes=stream.size,
        sha256=stream.digest.hexdigest(),
        keys=[key for key, _ in rows],
        records=np.array([record for _, record in rows], dtype=record_type()),
        dropped=dropped,
        damage=damage,
    )


def _add(samples: list[_Sample], member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
    name = SPLIT_NAME.fullmatch(member.name)
    if not member.isreg() or name is None or member.name.startswith("__"):
        return
    key, extension = name[1], name[2].lower()
    if not samples or samples[-1].key != key:
        samples.append(_Sample(key))
    content = tar.extractfile(member)
    data = content.read() if content is not None else b""
    if len(data) != member.size:
        raise EOFError(f"the tar ends inside sample {len(samples):,}")
    samples[-1].members[extension] = (member.offset_data, member.size, crc32(data))
    if extension in ("txt", "json"):
        samples[-1].texts[extension] = data


def _record(sample: _Sample, fields: Fields) -> np.ndarray:
    """Return a sample's index record. Raises ValueError when it cannot be used."""
    image = next((name for name in IMAGES if name in sample.members), None)
    kind = fields.caption.partition(":")[0]
    if image is None or not sample.members[image][1]:
        raise ValueError("it has no image" if image is None else "its image is empty")
    if kind not in sample.texts:
        raise ValueError(f"it has no {kind}")
    report = read_caption(sample.texts[kind], fields.caption)
    named = _json(sample) if fields.patient or fields.study else {}
    # Images of a study are of one patient, whoever that is: no split may part them.
    patient = _named(named, fields.patient or fields.study, sample.key)
    study = _named(named, fields.study, sample.key)
    record = np.zeros((), dtype=record_type())
    record["patient"] = int(keyed_hash(f"patient/{patient}", ""), 16)
    record["study"] = int(keyed_hash(f"study/{patient}/{study}", ""), 16)
    record["text"] = int(text_hash(report), 16)
    for role, name in ((IMAGE, image), (TEXT, kind)):
        record["offset"][role], record["size"][role], record["crc32"][role] = sample.members[name]
    assert len(record["size"]) == len(MEMBERS)
    return record


def _json(sample: _Sample) -> dict[str, Any]:
    if "json" not in sample.texts:
        raise ValueError("it has no json to find patient or study in")
    value = json.loads(sample.texts["json"])
    return value if isinstance(value, dict) else {}


def _named(named: dict[str, Any], name: str | None, key: str) -> str:
    if name is None:
        return key
    if named.get(name) in (None, ""):
        raise ValueError(f"its JSON has no '{name}'")
    return str(named[name])

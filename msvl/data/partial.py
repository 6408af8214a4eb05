"""An unfinished packing: a folder beside the result that keeps every finished shard, for one packer at a time.

`plan.json` says what is packed. A unit's shards lie where they will stay; `units/SPLIT-NUMBER.json` appears when they are whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msvl.config.errors import DataError

PLAN, UNITS, LOCK = "plan.json", "units", "lock"


@dataclass(frozen=True)
class Dropped:
    """A record that was left out."""

    key: str
    study: str
    where: str
    reason: str


@dataclass(frozen=True)
class UnitRecord:
    """What is known of a packed unit besides its shards' bytes."""

    split: str
    number: int
    shards: tuple[dict[str, Any], ...]
    """Entries of the manifest."""
    records: np.ndarray
    """[n] index records of all its shards; `shard` counts within the unit."""
    dropped: tuple[Dropped, ...]
    pixels: tuple[int, int, int]
    """Sum of grey levels, sum of their squares, number of pixels."""

    def save(self, folder: Path) -> None:
        """Write it; the unit counts as finished from then on."""
        path = folder / UNITS / f"{self.split}-{self.number:06d}"
        content = {
            "split": self.split,
            "number": self.number,
            "shards": self.shards,
            "dropped": [asdict(item) for item in self.dropped],
            "pixels": self.pixels,
        }
        np.save(path.with_suffix(".npy"), self.records)
        _replace(path.with_suffix(".json"), json.dumps(content).encode())

    @classmethod
    def load(cls, path: Path) -> UnitRecord:
        """Read what `save` wrote. Raises DataError when it is damaged."""
        try:
            content = json.loads(path.read_bytes())
            return cls(
                split=content["split"],
                number=content["number"],
                shards=tuple(content["shards"]),
                records=np.load(path.with_suffix(".npy")),
                dropped=tuple(Dropped(**item) for item in content["dropped"]),
                pixels=tuple(content["pixels"]),  # type: ignore[arg-type]
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}): remove its folder and pack again") from error


def load_units(folder: Path) -> dict[tuple[str, int], UnitRecord]:
    """Return the finished units of a folder by split and number."""
    found = (UnitRecord.load(path) for path in sorted((folder / UNITS).glob("*.json")))
    return {(unit.split, unit.number): unit for unit in found}


def partial_folder(out: Path) -> Path:
    """Return where an unfinished packing of `out` lies."""
    return out.with_name(f".{out.name}.partial")


@contextmanager
def open_partial(out: Path, header: Mapping[str, Any]) -> Iterator[Path]:
    """Hold the folder of an unfinished packing, new or left by an earlier one of the same header.

    Raises DataError when another process holds it, or what it keeps was packed from or with something else.
    """
    folder = partial_folder(out)
    (folder / UNITS).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another process is packing {out}: wait for it, or choose another --out") from None
        _check_header(folder, out, header)
        yield folder
    finally:
        os.close(descriptor)


def _check_header(folder: Path, out: Path, header: Mapping[str, Any]) -> None:
    content = json.dumps(header, indent=1, sort_keys=True).encode()
    plan = folder / PLAN
    if not plan.is_file():
        _replace(plan, content)
        return
    try:
        found = json.loads(plan.read_bytes())
    except ValueError:
        found = {}
    different = sorted(name for name in {*found, *header} if found.get(name) != json.loads(content).get(name))
    if different:
        raise DataError(
            f"{folder} holds an unfinished packing of {out} that differs in {', '.join(different)}: repeat that command to "
            "finish it, or remove the folder"
        )


def strip_partial(folder: Path) -> None:
    """Remove what only an unfinished packing needs; the plan last, so that a packer killed here can go on."""
    shutil.rmtree(folder / UNITS, ignore_errors=True)
    for name in (LOCK, PLAN):
        with suppress(FileNotFoundError):
            (folder / name).unlink()


def _replace(path: Path, data: bytes) -> None:
    aside = path.with_name(f"{path.name}.part")
    with open(aside, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)

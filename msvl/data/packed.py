"""A packed set: manifest, index and shards, opened without reading a shard.

The index tells for every sample its shard and, of each member, offset, size and checksum, so that any sample is one read away.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msvl.config.errors import DataError
from msvl.data.cache import BlockCache, CacheConfig
from msvl.data.index import Shard, SplitIndex, listed_shards
from msvl.data.set_folder import FORMAT_VERSION, MANIFEST, PART, TOKENIZER, fetch_small_files, index_file
from msvl.data.storage import Location, RemoteConfig, StorageError, open_location

if TYPE_CHECKING:
    from msvl.data.config import DataConfig

logger = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")
OWN, LABELS, NONE = "own", "from labels", "none"
"""Where the reports of a set come from."""
MAX_BAD_SHARE = 0.01
"""Share of lost samples above which a set is refused, where nobody says otherwise."""


class PackedSet:
    """A folder or URL made by `msvl data pack`."""

    def __init__(
        self,
        location: Location,
        folder: Path,
        manifest: dict[str, Any],
        splits: dict[str, SplitIndex],
        fingerprint: str,
    ) -> None:
        self.location = location
        """Where the set is."""
        self.path = folder
        """Local folder of manifest, index, prompts and tokenizer: the set itself, or a copy of these of a remote one."""
        self.manifest = manifest
        self.fingerprint = fingerprint
        """SHA-256 of the manifest, which holds those of shards and index: equal fingerprints, equal sets."""
        self._splits = splits

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        max_bad_share: float = MAX_BAD_SHARE,
        remote: RemoteConfig | None = None,
        cache: CacheConfig | None = None,
    ) -> PackedSet:
        """Open a packed set; of a local one, check that every shard is there in its full size.

        Args:
            path: Folder, or any URL that `open_location` knows.
            max_bad_share: Share of samples that may be lost in missing and cut shards; those are named in the log.
            remote: Attempts and time-outs of a remote set.
            cache: Where the node keeps what it reads of a remote set; None reads every range from there.

        Raises:
            DataError: there is no set, it is damaged or of another format. Names the file and the cure.
        """
        location = open_location(path, remote)
        raw = _read_manifest(location)
        try:
            manifest = json.loads(raw)
            if manifest["format"] != FORMAT_VERSION:
                raise DataError(
                    f"{location} has format {manifest['format']}, this msvl reads {FORMAT_VERSION}: pack the source again"
                )
            fingerprint = hashlib.sha256(raw).hexdigest()
            folder = fetch_small_files(location, raw, manifest["files"], Path(cache.folder) if cache else None)
            options = {
                "cache": BlockCache(cache) if cache else None,
                "remote": remote,
                "caption": manifest.get("caption"),
                "source": manifest["name"],
            }
            splits = {split: _split_index(split, location, folder, manifest, options) for split in SPLITS}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{location}: manifest or index is damaged ({error}); pack the source again") from error
        packed = cls(location, folder, manifest, splits, fingerprint)
        if location.is_local:
            packed._check_shards(max_bad_share)
        return packed

    @classmethod
    def from_config(cls, config: DataConfig, path: str | None = None) -> PackedSet:
        """Open what the section `data` of a configuration names, or another set in the same way. Raises as `open`."""
        return cls.open(
            path or config.path, max_bad_share=config.max_bad_share, remote=config.remote, cache=config.cache
        )

    def split(self, name: str) -> SplitIndex:
        """Return the index of a split. Raises DataError when it is empty or unknown."""
        self.check_split(name)
        return self._splits[name]

    def check_split(self, name: str) -> None:
        """Raise DataError when a split has no samples, with those that have."""
        if name not in self._splits or not len(self._splits[name]):
            have = (
                ", ".join(f"{split} ({len(index):,})" for split, index in self._splits.items() if len(index)) or "none"
            )
            raise DataError(f"{self.location}: the split '{name}' has no samples; splits with samples: {have}")

    def counts(self, split: str) -> dict[str, int]:
        """Return samples, studies and patients of a split."""
        return self.manifest["counts"][split]

    @property
    def name(self) -> str:
        """The source's name."""
        return self.manifest["name"]

    @property
    def id_space(self) -> str:
        """Whose patient, study and image ids were hashed: sets of one collection share it."""
        return self.manifest.get("id_space", self.name)  # sets packed before this was recorded: their own

    @property
    def licence(self) -> str:
        """The source's licence."""
        return self.manifest["licence"]

    @property
    def shareable(self) -> bool:
        """Whether texts and images may leave the run folder."""
        return self.manifest["shareable"]

    @property
    def reports(self) -> str:
        """Where the reports come from: OWN, LABELS (sentences made from labels) or NONE."""
        return self.manifest.get("reports", OWN)  # sets packed before this was recorded have their own

    @property
    def has_reports(self) -> bool:
        """Whether the samples have reports."""
        return self.reports != NONE

    @property
    def pixel_mean(self) -> float:
        """Mean grey value of the training split in [0, 1]."""
        return self.manifest["pixel_mean"]

    @property
    def pixel_std(self) -> float:
        """Standard deviation of the training split's grey values in [0, 1]."""
        return self.manifest["pixel_std"]

    @property
    def mask_bits(self) -> list[str]:
        """Name of each bit of the mask images, from the lowest."""
        return self.manifest["mask_bits"]

    @property
    def tokenizer_path(self) -> Path | None:
        """Folder of the tokenizer trained at packing, if there is one."""
        folder = self.path / TOKENIZER
        return folder if folder.is_dir() else None

    def _check_shards(self, max_bad_share: float) -> None:
        """Name missing and cut shards; raise DataError when they cost more samples than may be lost."""
        lost, faults = 0, []
        for index in self._splits.values():
            for number, shard in enumerate(index.shards):
                gone, what = _damage(index, number, shard)
                if what:
                    lost += gone
                    faults.append(f"shard {index.shard_url(number)} {what}")
        total = sum(map(len, self._splits.values()))
        # One bad record among a handful is no reason to stop, as in the stream.
        if lost > max(1.0, max_bad_share * total):
            more = f" and {len(faults) - 1} more shards" if len(faults) > 1 else ""
            raise DataError(
                f"{faults[0]}{more}: copy it again or pack the source again ({lost:,} of {total:,} samples are lost, more "
                f"than data.max_bad_share={max_bad_share:g} allows)"
            )
        for fault in faults:
            logger.warning("%s: its samples are skipped; copy it again (%d of %d samples are lost)", fault, lost, total)


def _read_manifest(location: Location) -> bytes:
    try:
        return location.join(MANIFEST).read_bytes()
    except StorageError as error:
        if error.kind != "missing":
            raise
        if location.is_local and (location.local_path / PART).is_file():
            raise DataError(
                f"{location} is a part of a packing: join all parts with `msvl data merge OUT PART...`"
            ) from error
        raise DataError(
            f"{location} is no packed set (no {MANIFEST}): make it with `{_pack_command(location)}`"
        ) from error


def _split_index(
    split: str, location: Location, folder: Path, manifest: dict[str, Any], options: dict[str, Any]
) -> SplitIndex:
    index = SplitIndex(split, location, listed_shards(manifest["shards"], split), folder / index_file(split), **options)
    if len(index) != manifest["counts"][split]["samples"]:
        raise ValueError(f"the shards of {split} do not add up to its samples")
    assert index.records is not None  # maps the file, so that a cut one is named here
    return index


def _damage(index: SplitIndex, number: int, shard: Shard) -> tuple[int, str]:
    """Return how many samples of a shard are lost, and why; "" when it is whole, or elsewhere and thus not asked."""
    if not index.shard_location(number).is_local:
        return 0, ""
    try:
        size = index.shard_path(number).stat().st_size
    except OSError as error:
        return shard.samples, "is missing" if isinstance(error, FileNotFoundError) else f"({error.strerror})"
    if size == shard.bytes:
        return 0, ""
    rows = index.shard_rows(number)
    records = index.records[rows.start : rows.stop]
    ends = (records["offset"] + records["size"]).max(axis=1)
    return int(np.count_nonzero(ends > size)), f"has {size:,} bytes instead of {shard.bytes:,}"


def _pack_command(location: Location) -> str:
    if location.name.startswith("phantom"):
        return f"msvl data pack phantom --out {location} --train-tokenizer 1200"
    return f"msvl data pack SOURCE --out {location}"

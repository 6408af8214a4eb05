"""A packed set: manifest, index and shards, opened without reading a shard.

The index tells for every sample its shard and, of each member, offset and size, so that any sample is one read away.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msvl.config.errors import DataError

MANIFEST, INDEX, PROMPTS, TOKENIZER, DROPPED = "manifest.json", "index.npz", "prompts.json", "tokenizer", "dropped.csv"
SPLITS = ("train", "val", "test")
MEMBERS = ("jpg", "json", "mask.png")
FORMAT_VERSION = 1


@dataclass(frozen=True)
class SplitIndex:
    """Where the samples of a split lie."""

    folder: Path
    shard_names: tuple[str, ...]
    keys: np.ndarray
    """[n] str."""
    shards: np.ndarray
    """[n] shard number."""
    offsets: np.ndarray
    """[n, members] byte offset in the shard, -1 where there is no such member."""
    sizes: np.ndarray
    """[n, members] bytes."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.keys)

    def shard_path(self, number: int) -> Path:
        """Return the path of a shard."""
        return self.folder / self.shard_names[number]


class PackedSet:
    """A folder made by `msvl data pack`."""

    def __init__(self, path: Path, manifest: dict[str, Any], splits: dict[str, SplitIndex], fingerprint: str) -> None:
        self.path = path
        self.manifest = manifest
        self.fingerprint = fingerprint
        """SHA-256 of the manifest: equal fingerprints, equal shards."""
        self._splits = splits

    @classmethod
    def open(cls, path: str | Path, *, check_sizes: bool = True) -> PackedSet:
        """Open a packed set and check that every shard is there in its full size.

        Raises DataError naming the file and the command that mends it.
        """
        folder = Path(path)
        if not (folder / MANIFEST).is_file():
            raise DataError(f"{folder} is no packed set (no {MANIFEST}): make it with `{_pack_command(folder)}`")
        raw = (folder / MANIFEST).read_bytes()
        try:
            manifest = json.loads(raw)
            splits = _read_index(folder, manifest)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: manifest or index is damaged ({error}); pack the source again") from error
        for shard in manifest["shards"] if check_sizes else ():
            file = folder / shard["split"] / shard["file"]
            size = file.stat().st_size if file.is_file() else None
            if size != shard["bytes"]:
                what = "is missing" if size is None else f"has {size:,} bytes instead of {shard['bytes']:,}"
                raise DataError(f"shard {file} {what}: copy it again or pack the source again")
        return cls(folder, manifest, splits, hashlib.sha256(raw).hexdigest())

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
            raise DataError(f"{self.path}: the split '{name}' has no samples; splits with samples: {have}")

    def counts(self, split: str) -> dict[str, int]:
        """Return samples, studies and patients of a split."""
        return self.manifest["counts"][split]

    @property
    def name(self) -> str:
        """The source's name."""
        return self.manifest["name"]

    @property
    def licence(self) -> str:
        """The source's licence."""
        return self.manifest["licence"]

    @property
    def shareable(self) -> bool:
        """Whether texts and images may leave the run folder."""
        return self.manifest["shareable"]

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


def write_index(folder: Path, rows: dict[str, list[tuple[str, int, list[int], list[int]]]]) -> None:
    """Write index.npz from (key, shard number, offsets, sizes) per split."""
    arrays: dict[str, np.ndarray] = {}
    for split, entries in rows.items():
        arrays[f"{split}/keys"] = np.array([entry[0] for entry in entries], dtype="U16")
        arrays[f"{split}/shards"] = np.array([entry[1] for entry in entries], dtype=np.int32)
        arrays[f"{split}/offsets"] = np.array([entry[2] for entry in entries], dtype=np.int64).reshape(-1, len(MEMBERS))
        arrays[f"{split}/sizes"] = np.array([entry[3] for entry in entries], dtype=np.int64).reshape(-1, len(MEMBERS))
    np.savez(folder / INDEX, **arrays)  # type: ignore[arg-type]  # numpy takes any names


def _read_index(folder: Path, manifest: dict[str, Any]) -> dict[str, SplitIndex]:
    if manifest["format"] != FORMAT_VERSION:
        raise ValueError(f"format {manifest['format']}, this msvl reads {FORMAT_VERSION}")
    splits = {}
    with np.load(folder / INDEX, allow_pickle=False) as arrays:
        for split in SPLITS:
            names = tuple(shard["file"] for shard in manifest["shards"] if shard["split"] == split)
            parts = (arrays[f"{split}/{part}"] for part in ("keys", "shards", "offsets", "sizes"))
            splits[split] = SplitIndex(folder / split, names, *parts)
    return splits


def _pack_command(folder: Path) -> str:
    if folder.name.startswith("phantom"):
        return f"msvl data pack phantom --out {folder} --train-tokenizer 1200"
    return f"msvl data pack SOURCE --out {folder}"

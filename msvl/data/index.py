"""Where every sample of a split lies: one fixed-size record per sample in `index/SPLIT.npy`, mapped into memory.

Records are ordered by shard, and within a shard all samples of a study lie next to each other; no study is in two shards.
A process touches only the pages it asks for, so the index may be far larger than its memory.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from msvl.data.cache import BlockCache
from msvl.data.storage import Location, RemoteConfig, open_location

IMAGE, TEXT, MASK = range(3)
"""Places of the members in a record."""
MEMBERS = ("image", "text", "mask")
"""Their names in messages."""
HEX_KEY = "<u8"
"""Keys that the packer makes: 16 hex digits. Foreign keys are bytes, `S` and the length of the longest."""


@lru_cache(maxsize=16)
def record_type(key: str = HEX_KEY) -> np.dtype:
    """Return the type of a record: 84 bytes with keys of our own."""
    return np.dtype(
        [
            ("key", key),
            ("study", "<u8"),
            ("patient", "<u8"),
            ("text", "<u8"),  # hash of the normalised report; 0: there is none
            ("offset", "<u8", (len(MEMBERS),)),  # of the member's first byte in the shard; 0: there is no such member
            ("size", "<u4", (len(MEMBERS),)),  # bytes
            ("crc32", "<u4", (len(MEMBERS),)),
            ("shard", "<i4"),
        ]
    )


@dataclass(frozen=True)
class Shard:
    """A shard as the manifest lists it."""

    file: str
    """Relative to the set's folder, or absolute: a path or a URL."""
    samples: int
    studies: int
    bytes: int
    sha256: str


def listed_shards(entries: Sequence[Mapping[str, Any]], split: str) -> list[Shard]:
    """Return the shards of a split among the entries of a manifest, in their order."""
    names = [field.name for field in fields(Shard)]
    return [Shard(**{name: entry[name] for name in names}) for entry in entries if entry["split"] == split]


class SplitIndex:
    """The samples of a split by number, and its shards. Cheap to pickle: the file is mapped where it is first used."""

    def __init__(
        self,
        split: str,
        root: Location,
        shards: Sequence[Shard],
        file: Path,
        *,
        cache: BlockCache | None = None,
        remote: RemoteConfig | None = None,
        caption: str | None = None,
        source: str = "",
    ) -> None:
        self.split = split
        self.root = root
        self.shards = tuple(shards)
        self.file = file
        self.cache = cache
        """Where remote shards are read through."""
        self.remote = remote
        """Attempts and time-outs of shards that are elsewhere than the set."""
        self.caption = caption
        """`txt` or `json:FIELD` for tars of another origin, whose text member is a caption; None for our own."""
        self.source = source
        """Name of the data set."""
        self._origins: dict[str, Location] = {}
        self._first = np.concatenate([[0], np.cumsum([shard.samples for shard in self.shards], dtype=np.int64)])

    def __len__(self) -> int:
        """Return the number of samples."""
        return int(self._first[-1])

    def __reduce__(self) -> tuple[Callable[..., SplitIndex], tuple[Any, ...]]:
        """Travel without the mapped file and without connections."""
        options = {"cache": self.cache, "remote": self.remote, "caption": self.caption, "source": self.source}
        return _rebuild, ((self.split, self.root, self.shards, self.file), options)

    @cached_property
    def records(self) -> np.ndarray:
        """[n] records, mapped. Raises ValueError when the file is not what the manifest says."""
        records = read_records(self.file) if len(self) else np.empty(0, record_type())
        if len(records) != len(self):
            raise ValueError(f"{self.file} has {len(records):,} records, the manifest says {len(self):,}")
        return records

    @property
    def keys(self) -> list[str]:
        """All keys, in order: for tools, not for sets of millions."""
        return [key_text(key) for key in self.records["key"]]

    def key(self, number: int) -> str:
        """Return a sample's key."""
        return key_text(self.records["key"][number])

    def study(self, number: int) -> int:
        """Return the hash of a sample's study."""
        return int(self.records["study"][number])

    def shard(self, number: int) -> int:
        """Return the number of a sample's shard."""
        return int(self.records["shard"][number])

    def sizes(self, number: int) -> tuple[int, ...]:
        """Return the bytes of a sample's members, 0 where there is none."""
        return tuple(int(size) for size in self.records["size"][number])

    @property
    def samples_per_shard(self) -> np.ndarray:
        """[shards] samples, without reading the index."""
        return np.diff(self._first)

    @property
    def studies_per_shard(self) -> np.ndarray:
        """[shards] studies, without reading the index."""
        return np.array([shard.studies for shard in self.shards], dtype=np.int64)

    def shard_rows(self, shard: int) -> range:
        """Return the numbers of a shard's samples, without reading the index."""
        return range(int(self._first[shard]), int(self._first[shard + 1]))

    def study_starts(self, shard: int) -> np.ndarray:
        """Return the number of the first sample of each study of a shard: [studies] int64, ascending."""
        rows = self.shard_rows(shard)
        studies = self.records["study"][rows.start : rows.stop]
        return rows.start + study_starts(studies)

    def let_go(self, shard: int) -> None:
        """Unmap the pages of a shard's records from this process: they are read again when they are asked for again."""
        rows, records = self.shard_rows(shard), self.records
        mapped = getattr(records.base, "_mmap", None)
        if mapped is None:  # an empty split
            return
        data = mapped.size() - records.nbytes
        begin = -(-(data + rows.start * records.itemsize) // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (data + rows.stop * records.itemsize) // mmap.PAGESIZE * mmap.PAGESIZE
        if begin < end:
            mapped.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def shard_location(self, shard: int) -> Location:
        """Return where a shard lies."""
        file = self.shards[shard].file
        if "://" not in file and not file.startswith("/"):
            return self.root.join(file)
        # One store per origin: a client for each of thousands of shards would be dear.
        origin = "/".join(file.split("/", 3)[:3]) if "://" in file else "/"
        if origin not in self._origins:
            self._origins[origin] = open_location(file, self.remote)
        return Location(self._origins[origin].store, file.removeprefix("file://"))

    def close(self) -> None:
        """Give back descriptors and connections."""
        for location in (self.root, *self._origins.values()):
            location.close()

    def shard_url(self, shard: int) -> str:
        """Return a shard's path or URL as it may be shown."""
        return str(self.shard_location(shard))

    def shard_path(self, shard: int) -> Path:
        """Return the path of a local shard. Raises DataError for remote ones."""
        return self.shard_location(shard).local_path


def _rebuild(arguments: tuple[Any, ...], options: dict[str, Any]) -> SplitIndex:
    return SplitIndex(*arguments, **options)


def study_starts(studies: np.ndarray) -> np.ndarray:
    """Return where each run of equal values begins."""
    if not len(studies):
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.concatenate([[True], studies[1:] != studies[:-1]]))


def split_counts(parts: Sequence[np.ndarray]) -> dict[str, int]:
    """Return samples, studies and patients of a split's records, given by shard."""
    return {
        "samples": sum(map(len, parts)),
        "studies": sum(len(study_starts(part["study"])) for part in parts),
        "patients": len(np.unique(np.concatenate([part["patient"] for part in parts]))) if parts else 0,
    }


def key_text(key: Any) -> str:
    """Return a key as text: 16 hex digits, or the bytes of a foreign key."""
    return key.decode() if isinstance(key, bytes) else f"{int(key):016x}"


def read_records(file: Path) -> np.ndarray:
    """Map the records of a file. Raises OSError, or ValueError when it is cut or of another kind."""
    # A plain array over the map: indexing a memmap costs a microsecond more.
    records = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    names = record_type().names
    if records.ndim != 1 or records.dtype.names != names:
        raise ValueError(f"{file} holds no records of {names}")
    return records


def write_records(file: Path, parts: Sequence[np.ndarray]) -> None:
    """Write the records of a split, given by shard."""
    key = max((part.dtype["key"] for part in parts), key=lambda kind: kind.itemsize, default=np.dtype(HEX_KEY))
    kind = record_type(key.str)
    with open(file, "wb") as stream:
        count = sum(map(len, parts))
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(part.astype(kind).tobytes())

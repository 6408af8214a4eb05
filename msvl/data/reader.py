"""Samples by number: one positioned read per member, no tar parsing, no state but open files."""

from __future__ import annotations

from typing import Any

from msvl.data.captions import caption_meta, read_caption
from msvl.data.checksum import crc32
from msvl.data.index import IMAGE, MASK, MEMBERS, TEXT, SplitIndex, key_text
from msvl.data.sample import parse_sample
from msvl.data.shard_files import ShardFiles


class SampleReader:
    """Reads members of a split's samples and checks size and CRC-32 (2 us for 47 kB). One per process.

    Every method that reads raises ValueError saying what is wrong with this sample, ShardFault (a ValueError) when its
    whole shard cannot be read.
    """

    def __init__(self, index: SplitIndex) -> None:
        self.index = index
        self._files = ShardFiles(index)
        records = index.records
        # Views of the mapped fields: a record's own fields cost three times as much to get at.
        self._keys, self._shards = records["key"], records["shard"]
        self._patients, self._studies = records["patient"], records["study"]
        self._offsets, self._sizes, self._sums = records["offset"], records["size"], records["crc32"]

    def key(self, number: int) -> str:
        """Return a sample's key."""
        return key_text(self._keys[number])

    def shown_key(self, number: int) -> str:
        """Return what names a sample in logs and messages: its key, or for tars of another origin, whose keys may be ids of
        patients, its number in the split.
        """
        return self.key(number) if self.index.caption is None else f"number {number}"

    def shard(self, number: int) -> str:
        """Return the path or URL of a sample's shard."""
        return self.index.shard_url(int(self._shards[number]))

    def image(self, number: int) -> bytes:
        """Return the image file's bytes."""
        return self._read(number, IMAGE)

    def meta(self, number: int) -> dict[str, Any]:
        """Return the parsed JSON, or the same made from a caption."""
        data = self._read(number, TEXT)
        if self.index.caption is None:
            return parse_sample(data)
        return caption_meta(
            read_caption(data, self.index.caption),
            patient=f"{self._patients[number]:016x}",
            study=f"{self._studies[number]:016x}",
            source=self.index.source,
        )

    def check_text(self, number: int) -> None:
        """Read the text's bytes and compare them with their checksum (5 us)."""
        self._read(number, TEXT)

    def mask(self, number: int) -> bytes | None:
        """Return the mask's bytes, or None when the sample has none."""
        return self._read(number, MASK) if self._offsets[number, MASK] else None

    def close(self) -> None:
        """Close all files."""
        self._files.close()

    def _read(self, number: int, member: int) -> bytes:
        offset, size = int(self._offsets[number, member]), int(self._sizes[number, member])
        if not offset:
            raise ValueError(f"it has no {MEMBERS[member]}")
        data = self._files.read(int(self._shards[number]), offset, size)
        if crc32(data) != self._sums[number, member]:
            raise ValueError(f"the bytes of its {MEMBERS[member]} are not those that were packed (CRC-32 differs)")
        return data

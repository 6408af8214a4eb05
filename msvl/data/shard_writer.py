"""Samples -> a WebDataset tar with fixed bytes, and its index records."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import webdataset

from msvl.data.checksum import crc32
from msvl.data.index import IMAGE, MASK, TEXT, record_type
from msvl.data.pack_record import Job, PackedSample

ROLES = {"jpg": IMAGE, "png": IMAGE, "json": TEXT, "mask.png": MASK}
"""Extension of a member in our shards -> its place in a record."""
BLOCK = 512
"""A tar's unit: each member has a header of one and is filled up to the next."""


class ShardWriter:
    """Writes one shard; the samples of a study must come one after the other. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        """Sum of the members so far."""
        # A fixed time makes the bytes a function of the input.
        self._writer = webdataset.TarWriter(str(path), encoder=False, mtime=0, user="msvl", group="msvl")
        self._writer.tarstream.format = (
            tarfile.USTAR_FORMAT
        )  # the same bytes as PAX here, without looking for what needs it
        self._rows: list[np.ndarray] = []

    def add(self, job: Job, sample: PackedSample) -> None:
        """Append a sample."""
        place = self._writer.tarstream.offset
        self._writer.write({"__key__": job.key, **sample.members})
        row = np.zeros((), dtype=record_type())
        row["key"], row["study"], row["patient"] = (int(name, 16) for name in (job.key, job.study, job.patient))
        row["text"] = int(sample.text_hash or "0", 16)
        for extension, data in sorted(sample.members.items()):  # as they are written
            role = ROLES[extension]
            row["offset"][role], row["size"][role], row["crc32"][role] = place + BLOCK, len(data), crc32(data)
            place += BLOCK + -(-len(data) // BLOCK) * BLOCK
            self.bytes += len(data)
        assert place == self._writer.tarstream.offset, (place, self._writer.tarstream.offset)
        self._rows.append(row)

    def close(self) -> np.ndarray:
        """Finish the shard; return its index records [n], the shard's number left at 0."""
        self._writer.close()
        return np.array(self._rows, dtype=record_type())

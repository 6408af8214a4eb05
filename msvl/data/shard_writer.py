"""Samples -> a WebDataset tar with fixed bytes, and its index records."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

import numpy as np
import webdataset

from msvl.data.index import IMAGE, MASK, TEXT, record_type
from msvl.data.pack_record import Job, PackedSample

ROLES = {"jpg": IMAGE, "png": IMAGE, "json": TEXT, "mask.png": MASK}
"""Extension of a member in our shards -> its place in a record."""


class ShardWriter:
    """Writes one shard; the samples of a study must come one after the other. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        """Sum of the members so far."""
        # A fixed time makes the bytes a function of the input.
        self._writer = webdataset.TarWriter(str(path), encoder=False, mtime=0, user="msvl", group="msvl")
        self._rows: dict[str, np.ndarray] = {}

    def add(self, job: Job, sample: PackedSample) -> None:
        """Append a sample."""
        self._writer.write({"__key__": job.key, **sample.members})
        row = np.zeros((), dtype=record_type())
        row["key"], row["study"], row["patient"] = (int(name, 16) for name in (job.key, job.study, job.patient))
        row["text"] = int(sample.text_hash or "0", 16)
        for extension, data in sample.members.items():
            row["crc32"][ROLES[extension]] = zlib.crc32(data)
            self.bytes += len(data)
        self._rows[job.key] = row

    def close(self) -> np.ndarray:
        """Finish the shard; return its index records [n], the shard's number left at 0."""
        self._writer.close()
        with tarfile.open(self.path, "r:") as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                role = ROLES[extension]
                self._rows[key]["offset"][role], self._rows[key]["size"][role] = member.offset_data, member.size
        return np.array(list(self._rows.values()), dtype=record_type())

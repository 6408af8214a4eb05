"""Shards: what the index says of members is what the tar holds."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

from msvl.data.index import IMAGE, MASK, TEXT
from msvl.data.pack_record import Job, PackedSample
from msvl.data.shard_writer import ROLES, ShardWriter
from msvl.data.study import Entry


def test_offsets_sizes_and_checksums_are_those_of_the_tar(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "a.tar")
    for number, size in enumerate((0, 1, 511, 512, 513, 5000)):
        job = Job(Entry("p", "s", "i", "row"), f"{number:016x}", "train", f"{7:016x}", f"{number:016x}")
        members = {"json": b"j" * size, "jpg": b"i" * (size + 3)} | ({"mask.png": b"m" * 70} if number % 2 else {})
        writer.add(job, PackedSample(members, "", (0, 0, 1)))
    rows = writer.close()
    with tarfile.open(tmp_path / "a.tar") as tar:
        found = {member.name: member for member in tar}
    data = (tmp_path / "a.tar").read_bytes()
    for number, row in enumerate(rows):
        for extension, role in ROLES.items():
            member = found.get(f"{number:016x}.{extension}")
            if member is None:
                assert extension == "png" or (role == MASK and number % 2 == 0)
                continue
            assert (row["offset"][role], row["size"][role]) == (member.offset_data, member.size)
            assert row["crc32"][role] == zlib.crc32(data[member.offset_data :][: member.size])
    assert {IMAGE, TEXT, MASK} == set(ROLES.values())

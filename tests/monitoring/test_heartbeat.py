"""What a rank's heartbeat file tells, whoever wrote into it."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from msvl.config.errors import ClusterError
from msvl.monitoring.heartbeat import SLOT, Beat, Heartbeat, read_beat, tell_to_leave


def begun(folder: Path, *, readers: int = 1) -> Heartbeat:
    return Heartbeat(folder / "node" / "rank-00003", rank=3, readers=readers)


def read(folder: Path) -> Beat:
    beat = read_beat(folder / "node" / "rank-00003")
    assert beat is not None
    return beat


def test_the_file_tells_phase_keys_collective_and_reads(tmp_path: Path) -> None:
    heart = begun(tmp_path)
    assert read(tmp_path).now["phase"] == "start"
    assert (tmp_path / "node").stat().st_mode & 0o077 == 0, "sample keys are for the owner only"
    heart.phase("forward", 7, ["a", "b"])
    heart.collective("all_gather", "gather.py:12 (gather)")
    heart.reading(0, "train/shard-000001.tar", "k")
    heart.phase("backward", 7)
    beat = read(tmp_path)
    assert (beat.who["rank"], beat.who["pid"], beat.alive()) == (3, os.getpid(), True)
    assert (beat.now["phase"], beat.now["step"], beat.now["beats"]) == ("backward", 7, 3)
    assert beat.batch == {"step": 7, "keys": ["a", "b"]}
    assert (beat.collective["what"], beat.collective["number"]) == ("all_gather at gather.py:12 (gather)", 1)
    assert [(one["shard"], one["key"]) for one in beat.readers] == [("train/shard-000001.tar", "k")]


def test_the_mark_is_where_a_step_began(tmp_path: Path) -> None:
    heart = begun(tmp_path)
    marks = []
    for phase, step in (("data", 1), ("forward", 1), ("data", 2), ("save", 2), ("data", 3)):
        time.sleep(0.002)
        heart.phase(phase, step)
        marks.append(read(tmp_path).now["mark"])
    assert marks[0] == marks[1]
    assert marks[1] < marks[2] < marks[3] < marks[4]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_process_tells_what_it_reads(method: str, tmp_path: Path) -> None:
    heart = begun(tmp_path, readers=2)
    process = multiprocessing.get_context(method).Process(target=heart.reading, args=(2, "shard", "key"))
    process.start()
    process.join(60)
    (reader,) = read(tmp_path).readers
    assert (reader["key"], reader["pid"]) == ("key", process.pid)


def test_many_and_long_keys_are_cut_and_torn_slots_left_out(tmp_path: Path) -> None:
    heart = begun(tmp_path)
    heart.phase("forward", 1, [f"{number:016x}" for number in range(5000)])
    assert 100 < len(read(tmp_path).batch["keys"]) < 5000
    path = tmp_path / "node" / "rank-00003"
    data = bytearray(path.read_bytes())
    data[2 * SLOT + 40] = 0  # in the batch's slot, as if it were being written
    path.write_bytes(data)
    assert (read(tmp_path).batch, read(tmp_path).now["phase"]) == ({}, "forward")


def test_a_place_where_no_file_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "node").write_text("no folder")
    with pytest.raises(
        ClusterError, match=r"node/rank-00003 cannot be made .* set TMPDIR .* or train\.watchdog_minutes=0"
    ):
        begun(tmp_path)


def test_a_rank_is_told_to_leave(tmp_path: Path) -> None:
    heart = begun(tmp_path)
    assert not heart.told_to_leave()
    tell_to_leave(tmp_path / "node" / "rank-00003")
    assert heart.told_to_leave()
    assert read_beat(tmp_path / "nothing") is None

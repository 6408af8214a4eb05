"""A node's cache: each block fetched once by however many processes, under its limit, and never a wrong byte."""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvl.data.cache import BlockCache, CacheConfig
from msvl.data.cache_block import PIECE
from msvl.data.storage import ObjectInfo, RemoteConfig, StorageError, open_location
from tests.helpers.object_server import ObjectServer, serve_objects

BLOCK = 200_000
BLOCKS = 10
DATA = np.random.default_rng(5).bytes(BLOCK * BLOCKS - 1234)
SPAWN = multiprocessing.get_context("spawn")
REMOTE = RemoteConfig(attempts=3, timeout_seconds=10, backoff_seconds=0.01)


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with serve_objects() as state:
        state.objects["/a.tar"] = DATA
        yield state


def config(folder: Path, blocks: float = 100, **options: Any) -> CacheConfig:
    # A block's footer takes 4 bytes per 64 KiB and 16 more.
    return CacheConfig(folder=str(folder), block_mb=BLOCK / 1e6, max_gb=blocks * (BLOCK + 100) / 1e9, **options)


def stored(folder: Path) -> int:
    """Bytes in the folder at one moment: room is made and claimed only under this lock, and a renamed file is counted once."""
    sizes = {}
    with open(folder / "space.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for part in ("aside", "blocks"):
            for path in (folder / part).glob("*"):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    sizes[status.st_ino] = status.st_size
    return sum(sizes.values())


def read_at_random(settings: CacheConfig, url: str, seed: int, reads: int, ready: Any, results: Any) -> None:
    """A reader process: reports whether all bytes were right, and its counts."""
    cache = BlockCache(settings)
    location = open_location(url, REMOTE)
    rng = np.random.default_rng(seed)
    ready.wait(30)
    wrong = 0
    for _ in range(reads):
        size = int(rng.integers(1, 70_000))
        offset = int(rng.integers(0, len(DATA) - size))
        wrong += cache.read_range(location, offset, size) != DATA[offset : offset + size]
    results.put((wrong, cache.counts))


def read_together(settings: CacheConfig, url: str, *, processes: int, reads: int) -> list[Any]:
    """Run readers at once and return their results."""
    results, ready = SPAWN.Queue(), SPAWN.Barrier(processes)
    readers = [
        SPAWN.Process(target=read_at_random, args=(settings, url, seed, reads, ready, results))
        for seed in range(processes)
    ]
    for reader in readers:
        reader.start()
    try:
        return [results.get(timeout=60) for _ in readers]
    finally:
        for reader in readers:
            reader.join(10)
            if reader.is_alive():
                reader.kill()


def test_only_the_blocks_needed_are_fetched(server: ObjectServer, tmp_path: Path) -> None:
    cache, location = BlockCache(config(tmp_path)), open_location(f"{server.url}/a.tar", REMOTE)
    assert cache.read_range(location, 2 * BLOCK + 50, 100) == DATA[2 * BLOCK + 50 : 2 * BLOCK + 150]
    assert cache.read_range(location, 2 * BLOCK, BLOCK) == DATA[2 * BLOCK : 3 * BLOCK]
    assert server.ranges_of("/a.tar") == [f"bytes={2 * BLOCK}-{3 * BLOCK - 1}"]
    across = slice(4 * BLOCK - 10, 6 * BLOCK + 10)
    assert cache.read_range(location, across.start, across.stop - across.start) == DATA[across]
    assert len(server.ranges_of("/a.tar")) == 1 + 4
    end = len(DATA) - 7
    assert cache.read_range(location, end, 7) == DATA[end:]
    counts = cache.counts
    assert (counts.misses, counts.hits, counts.bytes_fetched) == (6, 1, 6 * BLOCK - 1234)


def test_a_known_size_and_tag_saves_the_question(server: ObjectServer, tmp_path: Path) -> None:
    cache, location = BlockCache(config(tmp_path)), open_location(f"{server.url}/a.tar", REMOTE)
    assert cache.read_range(location, 5, 10, ObjectInfo(len(DATA), "sha")) == DATA[5:15]
    assert len(server.requests) == 1


def test_a_changed_object_is_fetched_anew(server: ObjectServer, tmp_path: Path) -> None:
    location = open_location(f"{server.url}/a.tar", REMOTE)
    assert BlockCache(config(tmp_path)).read_range(location, 0, 10) == DATA[:10]
    server.objects["/a.tar"] = DATA[::-1]
    assert BlockCache(config(tmp_path)).read_range(location, 0, 10) == DATA[::-1][:10]


def test_a_range_past_the_end_is_an_error(server: ObjectServer, tmp_path: Path) -> None:
    cache = BlockCache(config(tmp_path))
    with pytest.raises(StorageError) as caught:
        cache.read_range(open_location(f"{server.url}/a.tar", REMOTE), len(DATA) - 5, 10)
    assert caught.value.kind == "short"


def test_local_files_are_not_cached(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    cache = BlockCache(config(tmp_path / "cache"))
    assert cache.read_range(open_location(tmp_path / "a"), 5, 10) == DATA[5:15]
    assert not (tmp_path / "cache").exists()


@pytest.mark.evidence("Ranks and workers of a node fetch each remote block once", how="cpu")
def test_processes_fetch_each_block_once(server: ObjectServer, tmp_path: Path) -> None:
    server.delay = 0.05  # long enough for all processes to want the same block
    results = read_together(config(tmp_path), f"{server.url}/a.tar", processes=4, reads=150)
    ranges = server.ranges_of("/a.tar")
    assert [wrong for wrong, _ in results] == [0] * 4
    assert len(ranges) == len(set(ranges)) == BLOCKS
    assert sum(counts.misses for _, counts in results) == BLOCKS
    assert sum(counts.bytes_fetched for _, counts in results) == len(DATA)
    assert sum(counts.hits for _, counts in results) > 500


@pytest.mark.evidence("The node's cache stays under its size limit with several processes", how="cpu")
def test_processes_stay_under_the_limit_at_every_moment(server: ObjectServer, tmp_path: Path) -> None:
    settings = config(tmp_path, blocks=4)
    limit, seen, done = int(settings.max_gb * 1e9), [], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(stored(tmp_path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    results = read_together(settings, f"{server.url}/a.tar", processes=4, reads=100)
    done.set()
    watcher.join()
    assert [wrong for wrong, _ in results] == [0] * 4
    assert 3 * BLOCK < max(seen) <= limit and stored(tmp_path) <= limit
    assert sum(counts.misses for _, counts in results) > BLOCKS, "blocks were evicted and fetched again"


def test_the_least_recently_used_block_makes_room(server: ObjectServer, tmp_path: Path) -> None:
    location = open_location(f"{server.url}/a.tar", REMOTE)
    for number in (0, 1, 2, 0, 3):  # a new cache each time: use counts across processes
        time.sleep(0.02)
        BlockCache(config(tmp_path, blocks=3)).read_range(location, number * BLOCK, 10)
    cache = BlockCache(config(tmp_path, blocks=3))
    for number in (0, 2, 3):
        cache.read_range(location, number * BLOCK, 10)
    assert (cache.counts.hits, cache.counts.misses) == (3, 0), "block 1 was the one to go"


def test_an_evicted_block_gives_its_space_back(server: ObjectServer, tmp_path: Path) -> None:
    location = open_location(f"{server.url}/a.tar", REMOTE)
    cache = BlockCache(config(tmp_path))
    cache.read_range(location, 0, 10)
    cache.read_range(location, 0, 10)
    for path in (tmp_path / "blocks").iterdir():
        path.unlink()
    assert cache.read_range(location, 20, 10) == DATA[20:30], "an open block outlives its name"
    cache._open._swept = -10.0
    cache.read_range(location, BLOCK, 10)
    cache.read_range(location, BLOCK, 10)
    held = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if _is_open(number)]
    assert not [name for name in held if str(tmp_path) in name and "(deleted)" in name]


def _is_open(number: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


@pytest.mark.parametrize("damage", ["cut", "cut to nothing", "flip", "flip footer", "zeros", "longer"])
def test_a_damaged_block_is_fetched_again(
    server: ObjectServer, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    location = open_location(f"{server.url}/a.tar", REMOTE)
    BlockCache(config(tmp_path)).read_range(location, 0, 10)
    (path,) = (tmp_path / "blocks").iterdir()
    content = bytearray(path.read_bytes())
    if damage.startswith("cut"):
        content = content[: 0 if "nothing" in damage else 70_000]
    elif damage.startswith("flip"):
        content[-20 if "footer" in damage else PIECE + 7] ^= 1
    elif damage == "zeros":
        content[PIECE : 2 * PIECE] = bytes(PIECE)
    else:
        content += b"more"
    path.write_bytes(content)
    cache = BlockCache(config(tmp_path))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert cache.read_range(location, 0, BLOCK) == DATA[:BLOCK]
    assert (cache.counts.damaged, cache.counts.misses, cache.counts.hits) == (1, 1, 1)
    assert "is damaged" in caplog.text and path.name in caplog.text


def test_a_block_cut_while_open_is_fetched_again(server: ObjectServer, tmp_path: Path) -> None:
    location, cache = open_location(f"{server.url}/a.tar", REMOTE), BlockCache(config(tmp_path))
    for _ in range(2):
        cache.read_range(location, 0, BLOCK)
    (path,) = (tmp_path / "blocks").iterdir()
    os.truncate(path, 1000)
    assert cache.read_range(location, 5000, 100) == DATA[5000:5100]
    assert cache.counts.damaged == 1


def test_a_killed_fetcher_blocks_nobody(server: ObjectServer, tmp_path: Path) -> None:
    server.faults = ["ok", "stall"]  # the question of size, then the block
    settings, url = config(tmp_path), f"{server.url}/a.tar"
    ready, results = SPAWN.Barrier(1), SPAWN.Queue()
    victim = SPAWN.Process(target=read_at_random, args=(settings, url, 1, 1, ready, results))
    victim.start()
    deadline = time.monotonic() + 30
    while len(server.requests) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    (low, high) = server.requests[1][2].removeprefix("bytes=").split("-")
    cache, location = BlockCache(settings), open_location(url, REMOTE)
    cache.read_range(location, (int(low) + 5 * BLOCK) % (BLOCK * BLOCKS), 10)
    waiting = threading.Thread(target=cache.read_range, args=(location, int(low), 10))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and cache.counts.waits == 1, "the block is being fetched by the other process"
    os.kill(victim.pid or 0, signal.SIGKILL)
    waiting.join(5)
    assert not waiting.is_alive()
    victim.join(10)
    assert cache.read_range(location, int(low), 10) == DATA[int(low) : int(low) + 10]
    assert cache.counts.direct == 0 and int(high) > int(low)


def test_a_waiter_reads_past_a_fetcher_that_takes_too_long(server: ObjectServer, tmp_path: Path) -> None:
    location = open_location(f"{server.url}/a.tar", RemoteConfig(timeout_seconds=5))
    server.faults = ["ok", "stall"]
    slow, quick = BlockCache(config(tmp_path)), BlockCache(config(tmp_path, wait_seconds=0.2))
    holder = threading.Thread(target=slow.read_range, args=(location, 0, 10))
    holder.start()
    while len(server.requests) < 2:
        time.sleep(0.01)
    assert quick.read_range(location, 30, 10) == DATA[30:40]
    assert (quick.counts.direct, quick.counts.waits, quick.counts.bytes_fetched) == (1, 1, 10)
    server.stop.set()
    holder.join(20)
    assert not holder.is_alive()


def test_what_a_killed_writer_left_is_removed(server: ObjectServer, tmp_path: Path) -> None:
    location = open_location(f"{server.url}/a.tar", REMOTE)
    (tmp_path / "aside").mkdir()
    left = tmp_path / "aside" / "0123.99-1"
    left.write_bytes(bytes(BLOCK * 3))
    cache = BlockCache(config(tmp_path, blocks=3))
    cache.read_range(location, 0, 10)
    assert not left.exists() and len(list((tmp_path / "blocks").iterdir())) == 1


def test_a_full_disk_costs_one_warning(server: ObjectServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    location, cache = open_location(f"{server.url}/a.tar", REMOTE), BlockCache(config(tmp_path))
    cache.read_range(location, 0, 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses files above 100 kB, as a full disk would; smaller writes, such as those of other tests' logs, work.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with caplog.at_level(logging.WARNING):
            for number in range(1, 4):
                assert cache.read_range(location, number * BLOCK, 10) == DATA[number * BLOCK : number * BLOCK + 10]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(caplog.records) == 1 and "cannot be written to" in caplog.text
    assert server.ranges_of("/a.tar")[-1] == f"bytes={3 * BLOCK}-{3 * BLOCK + 9}", "only the bytes asked for"
    assert cache.read_range(location, 0, 10) == DATA[:10] and cache.counts.hits == 1, "what is there is still used"
    assert not list((tmp_path / "aside").iterdir())


def test_a_folder_that_cannot_be_made_costs_one_warning(
    server: ObjectServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = BlockCache(config(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING):
        for offset in (0, BLOCK):
            assert (
                cache.read_range(open_location(f"{server.url}/a.tar", REMOTE), offset, 9) == DATA[offset : offset + 9]
            )
    assert len(caplog.records) == 1 and "name a folder" in caplog.text and cache.counts.direct == 2


def test_a_failing_store_is_reported_through_the_cache(server: ObjectServer, tmp_path: Path) -> None:
    cache = BlockCache(config(tmp_path))
    location = open_location(f"{server.url}/a.tar", REMOTE)
    server.faults = ["ok", "500", "500", "500"]
    with pytest.raises(StorageError, match="in 3 attempts; the last: HTTP 500"):
        cache.read_range(location, 0, 10)
    assert cache.read_range(location, 0, 10) == DATA[:10], "its lock was given back"


def test_a_cache_travels_by_pickle_and_fork(server: ObjectServer, tmp_path: Path) -> None:
    cache, location = BlockCache(config(tmp_path)), open_location(f"{server.url}/a.tar", REMOTE)
    cache.read_range(location, 0, 10)
    assert pickle.loads(pickle.dumps(cache)).read_range(location, 7, 10) == DATA[7:17]
    child = os.fork()
    if child == 0:
        right = all(cache.read_range(location, n * BLOCK, 10) == DATA[n * BLOCK : n * BLOCK + 10] for n in range(3))
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_too_small_a_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="holds fewer than two blocks"):
        CacheConfig(folder="x", max_gb=0.02, block_mb=16)

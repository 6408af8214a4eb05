"""Files here and elsewhere: local disks, S3 (moto's server process), plain HTTP, and servers that fail by script."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from msvl.config.errors import ConfigError, DataError
from msvl.data.storage import Location, RemoteConfig, StorageError, open_location
from msvl.data.storage.local_store import MAX_OPEN
from tests.helpers.object_server import ObjectServer, serve_objects

DATA = bytes(range(256)) * 400
QUICK = RemoteConfig(attempts=3, timeout_seconds=0.4, backoff_seconds=0.01, min_mb_per_second=1000)
PERMANENT = {"403": "forbidden", "401": "forbidden", "404": "missing", "410": "missing", "400": "unavailable"}


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with serve_objects() as state:
        state.objects["/set/a.tar"] = DATA
        yield state


@pytest.fixture
def bucket(moto_url: str, aws: pytest.MonkeyPatch) -> Location:
    aws.setenv("AWS_ENDPOINT_URL", moto_url)
    return open_location("s3://bucket/sets/mine", RemoteConfig(attempts=2, timeout_seconds=10, backoff_seconds=0.01))


def http(server: ObjectServer, remote: RemoteConfig = QUICK) -> Location:
    return open_location(f"{server.url}/set", remote).join("a.tar")


def s3(server: ObjectServer, aws: pytest.MonkeyPatch, *, timeout: float = 1.0) -> Location:
    aws.setenv("AWS_ENDPOINT_URL", server.url)
    file = open_location("s3://set/a.tar", QUICK.model_copy(update={"timeout_seconds": timeout}))
    file.size()  # builds the client, which takes a third of a second by itself
    server.requests.clear()
    return file


# Local files


def test_a_local_file_is_written_read_and_listed(tmp_path: Path) -> None:
    folder = open_location(tmp_path)
    file = folder.join("a.tar")
    assert not file.exists()
    file.write_bytes(DATA)
    assert (file.size(), file.read_bytes(), file.read_range(1000, 77)) == (len(DATA), DATA, DATA[1000:1077])
    folder.join("b.tar").put_file(file.local_path)
    assert folder.list() == ["a.tar", "b.tar"], "nothing written aside is left"
    assert folder.is_local and file.name == "a.tar" and str(file) == str(tmp_path / "a.tar")


def test_a_file_url_is_a_local_path(tmp_path: Path) -> None:
    (tmp_path / "with space").write_bytes(b"x")
    location = open_location(f"file://{tmp_path}/with%20space")
    assert location.is_local and location.read_bytes() == b"x"


@pytest.mark.parametrize(
    ("offset", "size", "text", "kind"), [(90, 20, "ends after 10 of them", "short"), (500, 1, "ends after 0", "short")]
)
def test_a_local_file_that_ends_early_is_named(tmp_path: Path, offset: int, size: int, text: str, kind: str) -> None:
    file = open_location(tmp_path / "a.tar")
    file.write_bytes(bytes(100))
    with pytest.raises(StorageError, match=text) as caught:
        file.read_range(offset, size)
    assert caught.value.kind == kind and str(tmp_path) in str(caught.value)


def test_a_missing_local_file_is_named_with_the_cure(tmp_path: Path) -> None:
    for read in (lambda file: file.read_range(0, 1), lambda file: file.read_bytes(), lambda file: file.size()):
        with pytest.raises(StorageError, match="No such file or directory: check data.path") as caught:
            read(open_location(tmp_path / "none.tar"))
        assert caught.value.kind == "missing"


def test_a_failed_local_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = open_location(tmp_path / "a.tar")
    file.write_bytes(b"old")
    with pytest.raises(StorageError, match="none.bin: No such file"):
        file.put_file(tmp_path / "none.bin")
    assert file.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.tar"]


def test_open_descriptors_are_bounded_and_shared_by_threads(tmp_path: Path) -> None:
    folder = open_location(tmp_path)
    for number in range(MAX_OPEN + 60):
        folder.join(str(number)).write_bytes(str(number).encode().ljust(8))
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(4) as pool:
        numbers = [number % (MAX_OPEN + 60) for number in range(3000)]
        read = list(pool.map(lambda number: int(folder.join(str(number)).read_range(0, 8)), numbers))
    assert read == numbers
    assert len(os.listdir("/proc/self/fd")) - before <= MAX_OPEN + 4
    folder.close()
    assert len(os.listdir("/proc/self/fd")) - before <= 4


@pytest.mark.parametrize("part", ["../x", "a/../../x", "/etc/passwd"])
def test_a_name_does_not_lead_out_of_the_folder(tmp_path: Path, part: str) -> None:
    with pytest.raises(DataError, match="leads out of the folder"):
        open_location(tmp_path).join(part)


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(StorageError, match=r"nosuch://x/y: this scheme .* check it, or `pip install") as caught:
        open_location("nosuch://x/y")
    assert caught.value.kind == "unsupported"


# S3


@pytest.mark.evidence("Shards on S3 are read by ranges, with AWS_ENDPOINT_URL honoured", how="cpu")
def test_s3_objects_are_written_read_and_listed(bucket: Location, tmp_path: Path) -> None:
    file = bucket.join("train", "a.tar")
    assert not file.exists()
    file.write_bytes(DATA)
    (tmp_path / "b").write_bytes(DATA[::-1])
    bucket.join("train/b.tar").put_file(tmp_path / "b")
    assert (file.size(), file.read_bytes(), file.read_range(1000, 77)) == (len(DATA), DATA, DATA[1000:1077])
    assert bucket.join("train/b.tar").read_bytes() == DATA[::-1]
    assert bucket.join("train").list() == ["a.tar", "b.tar"] and bucket.list() == ["train"]
    assert not file.is_local and file.name == "a.tar" and str(file) == "s3://bucket/sets/mine/train/a.tar"


def test_s3_tags_change_with_the_content(bucket: Location) -> None:
    file = bucket.join("tagged")
    file.write_bytes(b"one")
    first = file.info()
    file.write_bytes(b"two")
    assert first.tag and first.tag != file.info().tag and first.size == file.info().size


@pytest.mark.parametrize(("offset", "size"), [(90, 20), (100, 1), (500, 10)])
def test_an_s3_object_that_ends_early_is_named_without_retries(bucket: Location, offset: int, size: int) -> None:
    file = bucket.join("short")
    file.write_bytes(bytes(100))
    with pytest.raises(StorageError, match=rf"short \[{offset} \+ {size} bytes\]: ") as caught:
        file.read_range(offset, size)
    assert caught.value.kind == "short" and file.counts.retries == 0


def test_a_missing_s3_object_is_not_retried(bucket: Location) -> None:
    with pytest.raises(StorageError, match="s3://bucket/sets/mine/none") as caught:
        bucket.join("none").read_range(0, 5)
    assert caught.value.kind == "missing" and bucket.counts.retries == 0


def test_an_s3_location_travels_to_a_fork_and_by_pickle(bucket: Location) -> None:
    file = bucket.join("travels")
    file.write_bytes(DATA)
    assert pickle.loads(pickle.dumps(file)).read_range(5, 10) == DATA[5:15]
    child = os.fork()
    if child == 0:
        os._exit(0 if file.read_range(5, 10) == DATA[5:15] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("fault", ["500", "503", "reset", "stall", "truncate"])
def test_a_passing_s3_fault_is_retried(server: ObjectServer, aws: pytest.MonkeyPatch, fault: str) -> None:
    # Only a stall needs to be waited for; the others must not run into the time-out on a loaded machine.
    file = s3(server, aws, timeout=4.0 if fault == "stall" else 20.0)
    # aiohttp itself repeats a GET once on a connection that was open before.
    server.faults = [fault, fault] if fault == "reset" else [fault]
    assert file.read_range(1000, 500) == DATA[1000:1500]
    assert file.counts.retries == 1 and len(server.ranges_of("/set/a.tar")) == (3 if fault == "reset" else 2)


def test_a_stalled_s3_server_ends_by_the_time_out(server: ObjectServer, aws: pytest.MonkeyPatch) -> None:
    file = s3(server, aws)
    server.faults = ["stall"] * 9
    start = time.monotonic()
    with pytest.raises(
        StorageError, match=r"s3://set/a.tar \[0 \+ 10 bytes\] could not be had in 3 attempts"
    ) as caught:
        file.read_range(0, 10)
    assert time.monotonic() - start < 5 and caught.value.kind == "unavailable"


def test_a_forbidden_s3_object_is_not_retried(server: ObjectServer, aws: pytest.MonkeyPatch) -> None:
    file = s3(server, aws)
    server.faults = ["403"] * 3
    with pytest.raises(StorageError, match="check the credentials") as caught:
        file.read_range(0, 10)
    assert caught.value.kind == "forbidden" and len(server.requests) == 1
    assert "secret-of-the-test" not in str(caught.value)


# Plain HTTP


def test_http_reads_only_the_range(server: ObjectServer) -> None:
    file = http(server)
    assert file.read_range(1000, 77) == DATA[1000:1077]
    assert server.requests == [("GET", "/set/a.tar", "bytes=1000-1076")]
    assert (file.size(), file.read_bytes(), file.exists()) == (len(DATA), DATA, True)
    assert not open_location(f"{server.url}/set/none", QUICK).exists()


@pytest.mark.evidence("Failing, resetting, stalling and truncating servers are retried", how="cpu")
@pytest.mark.parametrize("fault", ["500", "503", "429", "reset", "stall", "truncate", "drip", "other"])
def test_a_passing_http_fault_is_retried(server: ObjectServer, fault: str) -> None:
    file = http(server)
    server.faults = [fault, fault]
    start = time.monotonic()
    assert file.read_range(1000, 500) == DATA[1000:1500]
    assert time.monotonic() - start < 3
    assert file.counts.retries == 2 and file.counts.requests == 3 and file.counts.bytes_read == 500


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "HTTP 500"),
        ("reset", "no connection"),
        ("stall", "no answer within 0.4 s"),
        ("truncate", "the connection broke after 250 bytes"),
        ("drip", "only .* of 500 bytes came in 0.4 s"),
        ("other", "the answer is for another range"),
    ],
)
def test_the_last_error_names_url_range_attempts_reason_and_cure(server: ObjectServer, fault: str, reason: str) -> None:
    file = http(server)
    server.faults = [fault] * 9
    expected = (
        rf"/set/a.tar \[1000 \+ 500 bytes\] could not be had in 3 attempts; the last: {reason}.*: check the store"
    )
    with pytest.raises(StorageError, match=expected) as caught:
        file.read_range(1000, 500)
    assert caught.value.kind == "unavailable" and isinstance(caught.value, DataError)
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", list(PERMANENT))
def test_a_permanent_http_error_is_not_retried(server: ObjectServer, status: str) -> None:
    server.faults = [status] * 3
    with pytest.raises(StorageError, match=f"HTTP {status}") as caught:
        http(server).read_range(0, 5)
    assert caught.value.kind == PERMANENT[status] and len(server.requests) == 1


@pytest.mark.parametrize("offset", [len(DATA) - 5, len(DATA), len(DATA) + 50])
def test_an_http_object_that_ends_early_is_named(server: ObjectServer, offset: int) -> None:
    with pytest.raises(StorageError, match=rf"it has {len(DATA)} bytes|it has fewer bytes") as caught:
        http(server).read_range(offset, 10)
    assert caught.value.kind == "short" and len(server.requests) == 1


def test_a_server_without_ranges_is_refused(server: ObjectServer) -> None:
    server.ranges = False
    with pytest.raises(StorageError, match="ignores ranged reads: serve the set by one that honours them") as caught:
        http(server).read_range(5, 10)
    assert caught.value.kind == "unsupported"


def test_no_server_at_all_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(StorageError, match="in 3 attempts; the last: no connection .*refused"):
        open_location(f"http://127.0.0.1:{port}/a", QUICK).read_bytes()


def test_retries_are_logged_once_per_object(server: ObjectServer, caplog: pytest.LogCaptureFixture) -> None:
    file = http(server)
    server.faults = ["500", "500", "ok", "500", "ok"]
    with caplog.at_level(logging.WARNING):
        for offset in (0, 10):
            file.read_range(offset, 5)
    assert len(caplog.records) == 1 and "HTTP 500" in caplog.text and file.counts.retries == 3


def test_credentials_are_sent_but_never_shown(server: ObjectServer, caplog: pytest.LogCaptureFixture) -> None:
    url = server.url.replace("//", "//user:hunter2@") + "/set?signature=s3cr3t"
    file = open_location(url, QUICK).join("a.tar")
    assert file.read_range(0, 4) == DATA[:4]
    assert server.requests[0][1] == "/set/a.tar?signature=s3cr3t"
    texts = [str(file), repr(file), file.name]
    for fault in ("500", "reset", "stall", "403"):
        server.faults = [fault] * 3
        with pytest.raises(StorageError) as caught:
            file.read_range(0, 4)
        texts.append(str(caught.value))
    for text in [*texts, caplog.text]:
        assert text and "hunter2" not in text and "s3cr3t" not in text
    assert str(file) == f"{server.url}/set/a.tar"


def test_http_cannot_be_written_or_listed(server: ObjectServer) -> None:
    file = http(server)
    for act in (lambda: file.write_bytes(b""), lambda: file.put_file("x"), lambda: file.list()):
        with pytest.raises(StorageError, match="plain HTTP cannot") as caught:
            act()
        assert caught.value.kind == "unsupported"
    with pytest.raises(ConfigError, match="HTTP knows only 'headers', found token"):
        open_location(server.url, QUICK, {"token": "x"})


def test_an_http_location_travels_to_a_fork_threads_and_by_pickle(server: ObjectServer) -> None:
    file = http(server)
    assert file.read_range(0, 4) == DATA[:4]
    child = os.fork()
    if child == 0:
        os._exit(0 if all(file.read_range(n, 10) == DATA[n : n + 10] for n in range(20)) else 1)
    assert all(file.read_range(n, 10) == DATA[n : n + 10] for n in range(20))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: file.read_range(n, 10), range(40))) == [DATA[n : n + 10] for n in range(40)]
    assert pickle.loads(pickle.dumps(file)).read_range(5, 10) == DATA[5:15]


def test_an_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(StorageError("a sentence", "short")))
    assert (str(error), error.kind) == ("a sentence", "short")


def test_a_fault_of_the_program_is_not_retried() -> None:
    file = open_location("memory://somewhere/a", QUICK)
    with pytest.raises(TypeError):
        file.write_bytes(5)  # type: ignore[arg-type]
    assert file.counts.retries == 0

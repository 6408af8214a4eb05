"""Foreign text on a page loses paths, addresses and names; our own words and figures lose nothing."""

from __future__ import annotations

import pytest

from launch.acceptance.private import cleaned, leaks, secret_names

HOSTS, USERS = {"gpu-07.cluster.example.org", "gpu-07", "n1"}, {"jdoe"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("no file at /scratch/jdoe/runs/a b", "no file at [path] b"),
        ("see ~/runs/x. Then again", "see [path]. Then again"),
        ("../shards/mine/train is gone", "[path] is gone"),
        ('File "/opt/env/lib/torch/x.py", line 3', 'File "[path]", line 3'),
        ("msvl/training/engine.py:88 failed", "[path]:88 failed"),
        ("runs/x.yaml: unknown key", "[path]: unknown key"),
        ("connection to 10.0.3.17:12001 refused", "connection to [address] refused"),
        ("fe80:0:0:1::7 is down", "[address] is down"),
        ("ask jdoe@example.org", "ask [user]"),
        ("gpu-07.cluster.example.org: no space", "[host]: no space"),
        ("no report from n1, GPU-07", "no report from [host], [host]"),
        ("host gpu-07.other.example.org", "host [host]"),
        ("owned by JDoe", "owned by [user]"),
    ],
)
def test_what_is_private_goes(text: str, left: str) -> None:
    assert cleaned(text, HOSTS, USERS) == left


@pytest.mark.parametrize(
    "text",
    [
        "109.2 pairs/s, 0.29 s per step",
        "all_reduce 0.44 GB/s. The slowest link 1.5 GB/s",
        "loss/total of step 3 differs by 3.1e-05",
        "ZeRO-2 in fp32: total: the value is 5.1 instead of 5.2",
        "torch 2.13.0+cpu, NCCL 2.21.5",
        "the launcher started 1 ranks but the process group has 2",
        "node n10 and run1 are other words than the host's",
    ],
)
def test_other_words_stay(text: str) -> None:
    assert cleaned(text, HOSTS, USERS) == text


def test_a_finished_page_is_looked_at_once_more() -> None:
    assert leaks("<p>all is well</p></main></body>", HOSTS) == []
    assert leaks("<p>in /home/jdoe/x</p>", HOSTS) == ["/home/"]
    assert leaks("<td>n1</td>", HOSTS) == ["n1"]


def test_a_host_may_be_called_as_its_gpu_is() -> None:
    page = "<td>NVIDIA H100 80GB HBM3</td>"
    assert leaks(page, {"h100"}) == ["h100"]
    assert leaks(page, {"h100"}, known="NVIDIA H100 80GB HBM3") == []
    assert leaks("<p>the data of 7 ranks</p>", {"data", "7"}) == []


def test_this_machines_names_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("SLURMD_NODENAME", "cn042")
    hosts, users = secret_names(["cn043.example.org"])
    assert {"cn042", "cn043", "cn043.example.org"} <= hosts
    assert "somebody" in users


def test_a_user_without_a_name_has_none_to_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("launch.acceptance.private.getpass.getuser", nameless)
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setenv("HOME", "/")
    assert secret_names()[1] == set()

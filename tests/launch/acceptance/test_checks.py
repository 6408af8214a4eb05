"""What each check makes of what ranks left."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launch.acceptance.checks import (
    check_exactness,
    check_kill,
    check_links,
    check_nodes,
    check_strictness,
    measure_open_clip,
    measure_shipped,
)
from launch.acceptance.configs import FORMS, write_configs
from launch.acceptance.places import Ended, QueueNeeded
from launch.acceptance.stand import CheckFailed, NotRun, Stand
from msvl.config.load import load_config
from msvl.training.config import PretrainConfig
from msvl.training.finished import MARKER, step_folder
from tests.helpers.runs import ROOT
from tests.launch.acceptance.findings import AGAINST, EXACT, LINKS, MACHINE

STEPS = FORMS["short"].drill_steps


@dataclass
class Played:
    """A place whose ranks leave what a test says."""

    ranks_per_node: int = 2
    nodes: int = 1
    requeues: bool = False
    silent: list[str] = field(default_factory=list)
    answers: list[Callable[[Sequence[str]], int | None]] = field(default_factory=list)

    def process(self, words: Sequence[str], log: Path, *, seconds: float) -> Ended:
        return self.ranks(words, log, config=log, seconds=seconds)

    def ranks(self, words: Sequence[str], log: Path, *, config: Path, seconds: float) -> Ended:
        log.write_text("msvl: told so\n")
        return Ended(self.answers.pop(0)(words), log, 1.0)

    def host_names(self) -> list[str]:
        return []

    def check_nodes(self, folder: Path, config: Path) -> list[str]:
        return self.silent


@pytest.fixture(scope="module")
def base() -> PretrainConfig:
    return load_config(str(ROOT / "configs/pretrain/quickstart.yaml"), [], PretrainConfig)


@pytest.fixture
def stand(tmp_path: Path, base: PretrainConfig) -> Stand:
    configs, notes = write_configs(base, FORMS["short"], tmp_path, world=2, cache=tmp_path)
    return Stand(tmp_path, Played(), base, FORMS["short"], configs, notes)


def play(stand: Stand, *answers: Callable[[Sequence[str]], int | None]) -> None:
    assert isinstance(stand.place, Played)
    stand.place.answers = list(answers)


def leaving(stand: Stand, name: str, found: Any, code: int | None = 0) -> Callable[[Sequence[str]], int | None]:
    def answer(words: Sequence[str]) -> int | None:
        stand.out(name).write_text(json.dumps(found))
        return code

    return answer


def test_silent_nodes_are_named_with_what_may_be_wrong(stand: Stand) -> None:
    stand.place.silent = ["n7"]  # type: ignore[attr-defined]
    with pytest.raises(
        CheckFailed, match=r"no report from n7: a node that is down, or that does not see the result folder.*--out"
    ):
        check_nodes(stand)


def test_links_name_the_slowest(stand: Stand) -> None:
    play(stand, leaving(stand, "links", LINKS))
    assert "all_reduce 210.50 GB/s, slowest link of the ring 168.00 GB/s (rank 1 to 0)" in check_links(stand).says
    assert check_strictness(stand).found == {"planted": 4}


def test_one_rank_has_no_links_and_its_machine_is_known_all_the_same(stand: Stand) -> None:
    stand.place.ranks_per_node = 1  # type: ignore[misc]
    play(stand, leaving(stand, "links", LINKS))
    with pytest.raises(NotRun, match="there is only one rank") as raised:
        check_links(stand)
    assert raised.value.found["machine"] == MACHINE


def test_a_strict_check_that_sleeps_fails(stand: Stand) -> None:
    stand.out("links").write_text(json.dumps(LINKS | {"missed_differences": ["dtype"]}))
    with pytest.raises(CheckFailed, match="a planted difference was not refused: dtype"):
        check_strictness(stand)


def test_ranks_that_die_are_told_with_their_words(stand: Stand) -> None:
    play(stand, lambda words: 1)
    with pytest.raises(CheckFailed, match="exit code 1: msvl: told so"):
        check_links(stand)


def exact(**changes: Any) -> dict[str, Any]:
    case = EXACT["cases"][0]
    wrong = {**case, "precision": "bf16", "against": {"one device": AGAINST | changes}, "right": not changes}
    return EXACT | {"cases": [case, wrong]}


def test_a_wrong_case_is_named(stand: Stand) -> None:
    play(stand, leaving(stand, "exact", exact(right=False, words=["total: x 0.50"])))
    with pytest.raises(CheckFailed, match=r"1 of 2 cases are wrong; ZeRO-2 in bf16: total: x 0.50") as raised:
        check_exactness(stand)
    assert len(raised.value.found["cases"]) == 2, "the page shows all of them"


def test_a_hang_after_right_cases_fails_and_keeps_them(stand: Stand) -> None:
    play(stand, leaving(stand, "exact", exact(), code=None))
    with pytest.raises(
        CheckFailed, match=r"2 cases were right, then: not done within 1 s; the last that it said: msvl: told so"
    ):
        check_exactness(stand)


def test_right_cases_pass(stand: Stand) -> None:
    play(stand, leaving(stand, "exact", exact()))
    assert "gradients differ by at most 7.0e-06 in fp32" in check_exactness(stand).says


def training(stand: Stand, name: str, *steps: int, code: int = 0, loss: float = 2.0, digest: int = 5):  # type: ignore[no-untyped-def]
    """Return ranks that train these steps of a run: the losses are loss / step, the samples digest + step."""

    def answer(words: Sequence[str]) -> int:
        run = stand.run_folder(name)
        run.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"step": step, "loss/total": loss / step, "data/samples_digest": digest + step})
            for step in steps
        ]
        before = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").is_file() else ""
        kept = [line for line in before.splitlines() if json.loads(line)["step"] < steps[0]]
        (run / "metrics.jsonl").write_text("\n".join([*kept, *lines]) + "\n")
        for step in steps:
            if step % (STEPS // 3) == 0:
                checkpoint = step_folder(run / "checkpoints", step)
                checkpoint.mkdir(parents=True, exist_ok=True)
                (checkpoint / MARKER).write_text("{}")
        return code

    return answer


ALL, BEFORE, AFTER = range(1, STEPS + 1), range(1, 6), range(4, STEPS + 1)


def test_a_killed_run_that_goes_on_equally_passes(stand: Stand) -> None:
    play(
        stand,
        training(stand, "whole", *ALL),
        training(stand, "killed", *BEFORE, code=1),
        training(stand, "killed", *AFTER),
    )
    answer = check_kill(stand)
    assert answer.found == {
        "steps": STEPS, "loss_difference": 0.0, "samples_equal": True, "killed_after_step": 5, "resumed_from_step": 3, "requeued": False,
    }  # fmt: skip
    assert "losses of all 9 steps are equal to the bit" in answer.says


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"loss": 2.0000001}, r"the killed run's losses differ .* first by 5.0e-08 in loss/total of step 4"),
        ({"loss": float("nan")}, r"first by nan in loss/total of step 4"),
        ({"digest": 6}, r"step 4 read other samples"),
    ],
)
def test_a_killed_run_that_goes_on_otherwise_fails(stand: Stand, how: dict[str, Any], match: str) -> None:
    play(
        stand,
        training(stand, "whole", *ALL),
        training(stand, "killed", *BEFORE, code=1),
        training(stand, "killed", *AFTER, **how),
    )
    with pytest.raises(CheckFailed, match=match):
        check_kill(stand)


def test_gpus_may_differ_a_little_between_two_runs(stand: Stand) -> None:
    stand.found["links"] = LINKS
    off = training(stand, "killed", *AFTER, loss=2.0001)
    play(stand, training(stand, "whole", *ALL), training(stand, "killed", *BEFORE, code=1), off)
    assert check_kill(stand).found["loss_difference"] == pytest.approx(5e-5)


def test_steps_that_are_missing_fail(stand: Stand) -> None:
    play(
        stand,
        training(stand, "whole", *ALL),
        training(stand, "killed", *BEFORE, code=1),
        training(stand, "killed", *ALL[4:-1]),
    )
    with pytest.raises(CheckFailed, match="the killed run logged 8 of 9 steps"):
        check_kill(stand)


def test_a_rank_that_does_not_die_fails(stand: Stand) -> None:
    play(stand, training(stand, "whole", *ALL), training(stand, "killed", *ALL))
    with pytest.raises(CheckFailed, match="a rank was to die in step 7 and with it the run, but it reached step 9"):
        check_kill(stand)


def test_in_a_queue_the_job_goes_through_it(stand: Stand) -> None:
    stand.place.requeues = True  # type: ignore[misc]
    play(stand, training(stand, "whole", *ALL), training(stand, "killed", *BEFORE, code=1))
    with pytest.raises(QueueNeeded):
        check_kill(stand)
    stand.restart = 1
    play(stand, training(stand, "killed", *AFTER))
    answer = check_kill(stand)
    assert answer.found["requeued"] is True
    assert "the job went through Slurm's queue" in answer.says


def test_a_queue_that_refuses_fails_though_the_run_went_on(stand: Stand) -> None:
    stand.place.requeues = True  # type: ignore[misc]
    stand.refused = "requeue is off"
    play(
        stand,
        training(stand, "whole", *ALL),
        training(stand, "killed", *BEFORE, code=1),
        training(stand, "killed", *AFTER),
    )
    with pytest.raises(CheckFailed, match="the run went on, but Slurm did not take the job back: requeue is off"):
        check_kill(stand)


def measured(stand: Stand, name: str) -> Callable[[Sequence[str]], int]:
    def answer(words: Sequence[str]) -> int:
        run = stand.run_folder(name)
        run.mkdir(parents=True)
        paces = [1.0, 100.0, 80.0, 120.0]  # the first interval is left out
        rows = [
            {"step": 2 * place, "loss/total": 1.0, "throughput/pairs_per_second": pace, "throughput/waiting_share": 0.1}
            for place, pace in enumerate(paces, start=1)
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        facts = {"micro_batch": 4, "accumulation": 2, "ranks": 2, "zero_stage": 2, "precision": "bf16", "parameters": 7}
        (run / "run.json").write_text(json.dumps({"facts": facts}))
        folder = stand.folder / "ranks" / f"memory-{name}"
        for rank, main in enumerate((1.5, 2.5)):
            (folder / f"memory-rank-{rank:05d}.json").write_text(json.dumps({"main": main, "gpu": 9.0}))
        return 0

    return answer


def test_pace_and_memory_of_the_shipped_configuration(stand: Stand) -> None:
    play(stand, measured(stand, "shipped"))
    answer = measure_shipped(stand)
    found = answer.found
    assert (found["pairs_per_second"], found["slowest_pairs_per_second"], found["global_batch"]) == (100.0, 80.0, 16)
    assert found["step_seconds"] == pytest.approx(0.16)
    assert (found["main_gb"], found["gpu_gb"]) == (2.5, 9.0), "of the rank that took most"
    assert "100.0 pairs/s, 0.16 s per step of 16 pairs, 9.0 GB per GPU, 10% of the time waiting for data" in answer.says


def test_open_clip_that_is_not_there_is_a_named_reason(stand: Stand) -> None:
    play(stand, lambda words: 3)
    with pytest.raises(NotRun, match=r"open_clip is not installed \(pip install open_clip_torch\)"):
        measure_open_clip(stand)


def test_open_clips_loop_stands_beside_ours(stand: Stand) -> None:
    theirs = {"pairs_per_second": 50.0, "step_seconds": 0.3, "waiting_share": 0.2, "main_gb": 1.0}
    play(stand, lambda words: 0, measured(stand, "global"), leaving(stand, "open-clip", theirs))
    answer = measure_open_clip(stand)
    assert "open_clip's loop: 50.0 pairs/s; msvl with the global scale alone: 100.0 pairs/s (2.00 times)" in answer.says
    assert answer.found["open_clip"] == theirs

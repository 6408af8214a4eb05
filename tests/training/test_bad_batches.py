"""Bad batches: known by the losses of all ranks, taken back without a trace, put on record with their keys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from msvl.collectives.agree import barrier
from msvl.collectives.world import rank, world_size
from msvl.config.errors import ClusterError
from msvl.environment import prepare_environment
from msvl.training import checkpoint
from msvl.training.bad_batches import FILE, BadBatches
from msvl.training.config import BadBatchConfig
from msvl.training.lease import Lease
from msvl.training.saver import Retention, Saver
from msvl.training.state import TrainState
from tests.helpers.ranks import run_ranks
from tests.models.tiny import rows_of
from tests.training.test_exactness import PAIRS, forgotten_accelerator, global_batch
from tests.training.test_resharding import build, held, trained

STATE = TrainState(step=7, seed=0, world=1, zero_stage=2, global_batch=4, data_fingerprint="", data={})
NAN = float("nan")


def judging(**options: Any) -> BadBatches:
    return BadBatches(BadBatchConfig(window=3, **options), Path("unused"))


def after(*losses: float) -> TrainState:
    return replace(STATE, recent_losses=list(losses))


def test_one_rank_without_a_finite_loss_is_enough() -> None:
    action, why = judging(not_finite="skip").judge([1.0, NAN, 2.0, float("inf")], STATE) or ("", "")
    assert (action, why) == ("skip", "the loss is not finite (on ranks 1, 3)")


@pytest.mark.parametrize(
    ("losses", "recent", "bad"),
    [
        ([4.1, 4.1], [2.0, 2.0, 2.0], True),
        ([8.2, 0.0], [1.0, 2.0, 3.0], True),
        ([3.9, 3.9], [2.0, 2.0, 2.0], False),
        ([9.0, 9.0], [2.0, 2.0], False),
    ],
)
def test_a_leap_of_the_mean_over_ranks_above_the_last_losses(
    losses: list[float], recent: list[float], bad: bool
) -> None:
    found = judging(spike="roll_back").judge(losses, after(*recent))
    assert (found is not None) == bad
    assert not bad or found == ("roll_back", f"the loss leaps to {sum(losses) / 2:.4g} from 2")
    assert judging().judge(losses, after(*recent)) is None


def test_the_window_holds_the_last_good_losses() -> None:
    state = STATE
    for loss in (1.0, 2.0, 3.0, 4.0):
        state = judging().note(state, [loss, loss + 1])
    assert state.recent_losses == [2.5, 3.5, 4.5]


def test_a_bad_batch_is_on_record_and_too_many_stop_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = BadBatches(BadBatchConfig(most=1), tmp_path)
    batch: Any = SimpleNamespace(keys=("a1", "b2"), shown=("a1", "number 5"), step=7)
    state = bad.handle(batch, [NAN], STATE, "skip", "the loss is not finite (on ranks 0)")
    assert state.bad_steps == [8]
    assert "step 8: the loss is not finite (on ranks 0): skip; sample keys: a1 number 5" in caplog.text
    told = json.loads((tmp_path / FILE).read_text())
    assert (told["step"], told["action"], told["keys"]) == (8, "skip", [["a1", "b2"]])
    with pytest.raises(ClusterError, match=r"bad batch number 2 of this run, more than bad_batch\.most allows"):
        bad.handle(batch, [NAN], state, "skip", "again")
    with pytest.raises(ClusterError, match="step 8: again, so the update was not made; lower optimizer.lr"):
        bad.handle(batch, [NAN], STATE, "stop", "again")
    assert len((tmp_path / FILE).read_text().splitlines()) == 3, "the last batch before a stop is on record too"


def taken_back(folder: str) -> None:
    """Collective. Under each stage: a batch without an update leaves no trace, and a roll-back puts everything back."""
    prepare_environment()
    for stage in (0, 1, 2, 3):
        with forgotten_accelerator():
            share = rows_of(global_batch(), list(range(rank(), PAIRS, world_size())))
            engine = build(stage)
            trained(engine, 2)
            expected = held(engine)
            trained(engine, 1)
            onward = held(engine)
            engine.deepspeed.destroy()
        with forgotten_accelerator():
            engine = build(stage)
            trained(engine, 2)
            checkpoints = Path(folder) / f"zero-{stage}" / "checkpoints"
            if rank() == 0:
                checkpoints.mkdir(parents=True)
            barrier()
            saver = Saver(
                engine,
                checkpoints,
                Lease(checkpoints.parent, 1),
                export=lambda weights, target: None,
                retention=Retention(keep=1, keep_best=1, metric=""),
                background=True,
            )
            saver.save(TrainState(2, 0, world_size(), stage, PAIRS, "", {}))
            engine.forward(share)
            engine.forget()
            same(held(engine), expected, f"zero-{stage}: a forgotten batch")
            trained(engine, 3)
            engine.forward(share)
            engine.forget()
            saver.finish()
            checkpoint.load(engine, checkpoints / "step-00000002")
            same(held(engine), expected, f"zero-{stage}: rolled back")
            trained(engine, 1)
            same(held(engine), onward, f"zero-{stage}: one step after the roll-back")
            engine.deepspeed.destroy()


def same(found: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    for name, values in expected.items():
        for key, value in values.items():
            assert torch.equal(found[name][key], value), f"{what}: {key} of {name}"


@pytest.mark.ranks
@pytest.mark.evidence(
    "A batch whose update is left out leaves no trace, and a roll-back to a checkpoint inside a running attempt gives its weights and "
    "moments and the same next step, to the bit, under ZeRO 0 to 3",
    how="gloo",
)
def test_nothing_of_a_bad_batch_stays(tmp_path: Path) -> None:
    run_ranks(2, taken_back, str(tmp_path), timeout=300)

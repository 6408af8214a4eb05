"""The hook protocol: everything optional around the loop is an observer on rank 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class StepReport:
    """What one logged step tells. Losses are global values (means over ranks), times are of this interval."""

    step: int
    """Optimizer steps done, the reported one included."""
    steps: int
    losses: dict[str, float]
    """total and one entry per scale."""
    metrics: dict[str, float]
    """What the objectives report beside."""
    lr: float
    gradient_norm: float
    skipped_steps: int
    """Updates that the engine has left out since the run began, because a gradient was not finite."""
    pairs_per_second: float
    """Over all ranks."""
    waiting_share: float
    """Share of the interval that the slowest rank waited for data, 0 to 1."""
    samples_digest: int
    """Sum of the global batch's sample ids modulo 2^63: equal digests, equal samples."""
    seconds: float
    """Since the attempt began."""
    bad_batches: int = 0
    """Batches without an update since the run began, because their loss was not finite or leapt up."""


class Observer(Protocol):
    """Sees every logged step and every judgement, on rank 0."""

    def after_step(self, report: StepReport) -> None:
        """Take note of a logged step."""

    def after_judgement(self, step: int, metrics: dict[str, float]) -> None:
        """Take note of a judgement on held-out data (flat names)."""

    def close(self) -> None:
        """Finish; called once, also after an error."""


def flat(report: StepReport) -> dict[str, Any]:
    """Return one flat record with the names that metrics.jsonl and W&B use."""
    record: dict[str, Any] = {"step": report.step, "seconds": round(report.seconds, 3)}
    record |= {f"loss/{name}": value for name, value in report.losses.items()}
    record |= {f"train/{name}": value for name, value in report.metrics.items()}
    record |= {
        "train/lr": report.lr,
        "train/gradient_norm": report.gradient_norm,
        "train/skipped_steps": report.skipped_steps,
        "train/bad_batches": report.bad_batches,
        "throughput/pairs_per_second": report.pairs_per_second,
        "throughput/waiting_share": report.waiting_share,
        "data/samples_digest": report.samples_digest,
    }
    return record

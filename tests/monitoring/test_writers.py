"""metrics.jsonl survives kills and resumes; the collapse watch speaks when a loss stays at chance."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from msvl.monitoring.health import CollapseWatch, SkippedSteps
from msvl.monitoring.observer import StepReport
from msvl.monitoring.writers import JsonlWriter, read_metrics, wandb_key_present


def report(step: int, loss: float = 1.0, *, skipped: int = 0, **metrics: float) -> StepReport:
    return StepReport(
        step=step, steps=100, losses={"total": loss, "global": loss}, metrics=metrics, lr=0.1, gradient_norm=1.0,
        skipped_steps=skipped,
        pairs_per_second=10.0, waiting_share=0.0, samples_digest=7, seconds=1.0,
    )  # fmt: skip


def test_after_a_resume_the_later_attempt_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for attempt, (steps, loss) in enumerate((((1, 2, 3), 1.0), ((2, 3, 4), 2.0)), start=1):
        writer = JsonlWriter(path, attempt)
        for step in steps:
            writer.after_step(report(step, loss))
        writer.close()
    assert [(r["step"], r["loss/total"]) for r in read_metrics(path)] == [(1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)]


def test_a_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(path, 1)
    writer.after_step(report(1))
    writer.after_judgement(1, {"zero_shot.auc_mean": 0.5})
    writer.close()
    path.write_text(path.read_text() + '{"step": 2, "loss/to')
    assert [record["step"] for record in read_metrics(path)] == [1, 1]


def test_losses_are_written_with_all_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(path, 1)
    writer.after_step(report(1, 0.1 + 0.2))
    writer.close()
    assert read_metrics(path)[0]["loss/total"] == 0.1 + 0.2


@pytest.mark.evidence("A collapse is said in words, with its likely causes", how="cpu")
def test_a_loss_at_chance_is_said_in_words(caplog: pytest.LogCaptureFixture) -> None:
    watch = CollapseWatch(patience=3)
    with caplog.at_level(logging.WARNING, logger="msvl"):
        for step in range(1, 7):
            watch.after_step(report(step, 8.30, global_chance=8.317))
    assert watch.collapsed == {"global"}
    assert "stuck at its chance value" in caplog.text
    assert "likely causes" in caplog.text


def test_a_loss_above_chance_that_still_falls_is_no_collapse() -> None:
    watch = CollapseWatch(patience=3)
    for step in range(1, 10):
        watch.after_step(report(step, 12.75 - 0.3 * step, global_chance=8.317))
    assert not watch.collapsed


def test_a_cross_sample_term_at_chance_is_said_too() -> None:
    watch = CollapseWatch(patience=3)
    for step in range(1, 7):
        watch.after_step(report(step, cross_sample_image=3.46, cross_sample_text=1.2, cross_sample_chance=3.466))
    assert watch.collapsed == {"cross-sample image"}


def test_updates_that_were_left_out_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = SkippedSteps(2)
    with caplog.at_level(logging.WARNING, logger="msvl"):
        for step, skipped in ((1, 2), (2, 2), (3, 5), (4, 5)):
            watch.after_step(report(step, skipped=skipped))
    assert [record.message.split(" because")[0] for record in caplog.records] == [
        "step 3: 3 more updates were left out"
    ]


def test_a_loss_that_falls_is_no_collapse() -> None:
    watch = CollapseWatch(patience=3)
    for step in range(1, 20):
        watch.after_step(report(step, 8.3 - 0.1 * step, global_chance=8.317))
    assert not watch.collapsed


def test_wandb_stays_offline_without_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not wandb_key_present()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_key_present()

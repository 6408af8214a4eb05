"""Has every scale learnt? What the last steps of training measured, beside a guess that has learnt nothing."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from msvl.evaluation.run_record import RunRecord
from msvl.evaluation.tables import Table, number

LAST_SHARE = 0.1
"""Share of the logged steps that a figure is the mean of: one batch alone is noise."""


@dataclass(frozen=True)
class Sign:
    """A figure by which a scale shows that it has learnt."""

    name: str
    title: str
    metric: str
    guess: str | float
    """Metric or fact of a guess without learning, or its value."""
    better: str
    """'above' or 'below' the guess."""


SIGNS = (
    Sign("global_loss", "global: InfoNCE, both directions", "loss/global", "train/global_chance", "below"),
    Sign("local_loss", "local: InfoNCE, both directions", "loss/local", "train/local_chance", "below"),
    Sign("matching_accuracy", "instance: accuracy on hard negatives", "train/matching_accuracy_hard", 0.5, "above"),
    Sign("reconstruction_error", "modality: error of masked patches", "train/mae", "train/mae_mean_patch_error", "below"),
    Sign("masked_token_cross_entropy", "modality: cross entropy of masked tokens", "train/mlm", "unigram_entropy", "below"),
)  # fmt: skip


def scale_figures(record: RunRecord) -> dict[str, float]:
    """Return each sign as NAME and its guess as NAME_guess: the mean over the last tenth of the logged steps."""
    figures: dict[str, float] = {}
    for sign in SIGNS:
        value, guess = _last(record, sign.metric), _guess(record, sign.guess)
        if value is not None and guess is not None:
            figures |= {sign.name: value, f"{sign.name}_guess": guess}
    return figures


def scale_table(figures: dict[str, float]) -> Table:
    """Return one row per sign: value, what a guess reaches, and whether the value is on the right side of it."""
    rows = []
    for sign in SIGNS:
        if sign.name in figures:
            value, guess = figures[sign.name], figures[f"{sign.name}_guess"]
            learnt = value > guess if sign.better == "above" else value < guess
            rows.append((sign.title, number(value), f"{sign.better} {number(guess)}", "yes" if learnt else "no"))
    return Table(("scale", "last steps", "learnt when", "learnt"), rows)


def _guess(record: RunRecord, guess: str | float) -> float | None:
    if not isinstance(guess, str):
        return guess
    fact = record.run.get("facts", {}).get(guess)
    return float(fact) if fact is not None else _last(record, guess)


def _last(record: RunRecord, metric: str) -> float | None:
    values = [value for _, value in record.series(metric)]
    return statistics.fmean(values[-max(1, round(LAST_SHARE * len(values))) :]) if values else None

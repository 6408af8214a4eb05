"""Sentences on what the figures of a run do not prove, derived from the figures and the data themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msvl.evaluation.run_record import RunRecord

FEW_PATIENTS = 200
"""Below this an interval of an AUC is about as wide as the differences that papers report."""


def caveats(record: RunRecord) -> list[str]:
    """Return the sentences for the run's headline evaluation."""
    headline = record.evaluations[0]
    return [*_about_data(headline["data"]), *_about_figures(headline["figures"]), *_about_method(headline)]


def _about_data(data: Mapping[str, Any]) -> list[str]:
    lines = []
    if data["name"].startswith("phantom"):
        lines.append(
            "The radiographs and reports are simulated: the figures show that training and judgement work, and say "
            "nothing about patients."
        )
    if data["patients"] < FEW_PATIENTS:
        lines.append(
            f"Only {data['patients']:,} patients were judged: the figures prove that the job runs from end to end, not "
            "how good the model is; look at the width of the intervals."
        )
    lines.append("Nothing here was tested in a clinic: research use, not a medical device.")
    return lines


def _about_figures(figures: Mapping[str, Any]) -> list[str]:
    lines = [f"Not judged: {found['left_out']}." for found in figures.values() if "left_out" in found]
    lines += [
        f"No interval of {task} {name.removesuffix('_interval_missing')}: {reason}."
        for task, found in figures.items()
        for name, reason in found.items()
        if name.endswith("_interval_missing")
    ]
    for task, name, title in (
        ("zero_shot", "auc_mean", "zero-shot AUC"),
        ("retrieval", "report_r5", "report R@5"),
        ("grounding", "cnr", "grounding CNR"),
        ("grounding", "miou", "grounding mIoU"),
        ("linear_probe", "auc_mean", "linear-probe AUC"),
    ):
        own, untrained = (figures.get(task, {}).get(f"{name}{end}") for end in ("_interval", "_untrained_interval"))
        if own and untrained and own[0] <= untrained[1]:
            lines.append(f"The {title} is not told apart from the untrained model's: the intervals overlap.")
    pixels = figures.get("pixel_baseline", {}).get("auc_mean")
    ours = figures.get("zero_shot", {}).get("auc_mean")
    if pixels is not None and ours is not None and ours <= pixels:
        lines.append(
            f"Regression on 32 x 32 pixels reaches {pixels:.3f}, no less than the zero-shot AUC: that figure "
            "proves no more than pixels do."
        )
    grounding = figures.get("grounding", {})
    if grounding.get("pairs_outside_crop"):
        lines.append(
            f"{grounding['pairs_outside_crop']:,} phrases have no box inside the model's square and were left out."
        )
    return lines


def _about_method(headline: Mapping[str, Any]) -> list[str]:
    figures = headline["figures"]
    lines = [
        "The intervals are about which patients were drawn, not about the luck of training: one run, one seed. The "
        "retrieval gallery stays the same in every resample."
    ]
    if "gallery" in figures.get("retrieval", {}):
        found = figures["retrieval"]
        lines.append(
            f"Retrieval is over {found['gallery']:,} studies with {found['distinct_texts']:,} different texts; equal "
            "texts count as hits, in the figures and in the chance level. Larger galleries give lower figures."
        )
    if "prompts" in figures.get("zero_shot", {}):
        found = figures["zero_shot"]
        lines.append(
            f"Zero-shot figures hold for these prompts ({found['prompts']}, digest {found['prompts_digest']}, "
            f"{found['score']} score); other wordings give other figures."
        )
    if "flavour" in figures.get("grounding", {}):
        lines.append(f"Grounding: {figures['grounding']['flavour']}. Other flavours give other figures.")
    if headline["data"]["split"] == "val":
        lines.append(
            "The best checkpoint was chosen on this very split, which flatters the figures: judge the test split."
        )
    else:
        lines.append("The best checkpoint is chosen on the validation split, never on the split judged here.")
    return lines

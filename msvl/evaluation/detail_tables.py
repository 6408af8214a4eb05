"""The tables behind the paper's: every figure by finding, zero-shot by prompt set, grounding by threshold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msvl.evaluation.tables import Table, number, spoken

RATIOS = ("1", "10", "100")
"""Percent of the labels."""
CLASSIFIERS = ("zero_shot", "linear_probe", "fine_tuned")


def detail_tables(content: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Return title and table of what the headline tables are means of, where it was measured.

    Args:
        content: Of an evaluation by a protocol.
    """
    figures = content["figures"]
    shares = [*(f"_at_{ratio}" for ratio in RATIOS), ""]
    classified = [
        (task, f"auc{share}", f"{spoken(task)}{share.replace('_at_', ', ')}{' %' if share else ''}")
        for task in CLASSIFIERS
        for share in shares
    ]
    located = [("grounding", f"{name}_by_finding", title) for name, title in (
        ("miou", "mIoU"), ("cnr", "CNR"), ("cnr_absolute", "CNR absolute"), ("pointing", "pointing"),
    )]  # fmt: skip
    masked = [("segmentation", f"dice_image_by_mask_at_{ratio}", f"{ratio} %") for ratio in RATIOS]
    found = [
        ("By finding, AUC (%)", CLASSIFIERS, _by_name("finding", figures, classified, percent=True)),
        ("By finding, phrase grounding", ("grounding",), _by_name("finding", figures, located, percent=False)),
        ("By mask, Dice per image (%)", ("segmentation",), _by_name("mask", figures, masked, percent=True)),
        (
            "Zero-shot AUC by prompt set, cosine of image and prompt (%)",
            ("zero_shot",),
            _by_prompts(figures.get("zero_shot", {})),
        ),
        ("Phrase grounding, IoU by threshold", ("grounding",), _by_threshold(figures.get("grounding", {}))),
    ]
    return [(f"{title}; {card_digests(content['cards'], tasks)}", table) for title, tasks, table in found if table.rows]


def card_digests(cards: Mapping[str, Any], tasks: Iterable[str]) -> str:
    """Return 'card DIGEST' of what the tasks were measured by, for the title of a table without a column of sources."""
    digests = [cards[task]["digest"] for task in tasks if task in cards]
    return f"card{'s' * (len(digests) > 1)} {', '.join(digests)}"


def _by_name(first: str, figures: Mapping[str, Any], wanted: Sequence[tuple[str, str, str]], *, percent: bool) -> Table:
    """Return a row per name and a column per (task, figure, title) that was measured."""
    columns = [(title, figures[task][name], figures[task].get(f"{name}_interval", {}))
               for task, name, title in wanted if name in figures.get(task, {})]  # fmt: skip
    names = sorted({name for _, values, _ in columns for name in values})
    rows = [(spoken(name), *(_cell(values, bounds, name, percent) for _, values, bounds in columns)) for name in names]
    return Table((first, *(title for title, _, _ in columns)), rows)


def _cell(values: Mapping[str, float], bounds: Mapping[str, Sequence[float]], name: str, percent: bool) -> str:
    if name not in values:
        return "-"
    own = [values[name], *bounds.get(name, ())]
    shown = [f"{100 * value:.1f}" if percent else number(value) for value in own]
    return shown[0] + (f" [{shown[1]}, {shown[2]}]" if len(shown) == 3 else "")


def _by_prompts(zero_shot: Mapping[str, Any]) -> Table:
    found = zero_shot.get("auc_mean_by_prompts", {})
    rows = [(name, f"{100 * value:.1f}") for name, value in found.items()]
    if rows:
        rows.append(("spread (standard deviation)", f"{100 * zero_shot['auc_mean_spread_over_prompts']:.1f}"))
    return Table(("prompt set", "AUC"), rows)


def _by_threshold(grounding: Mapping[str, Any]) -> Table:
    found = {name.removeprefix("iou_"): value for name, value in grounding.items() if name.startswith("iou_")}
    own = [(threshold, number(value)) for threshold, value in found.items() if not threshold.endswith("_untrained")]
    return Table(("threshold", "IoU"), own)

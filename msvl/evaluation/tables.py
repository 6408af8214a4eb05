"""Figures as tables for the terminal and as Markdown, ours beside what others reported on other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Headline:
    """One of the figures that a judgement is known by."""

    task: str
    name: str
    title: str
    chance: float | str | None
    """Value of a model that knows nothing, or the figure that holds it, or None when there is no such value."""
    scale: tuple[float, float]
    """Range in which it is drawn."""
    meaning: str


HEADLINES = (
    Headline("zero_shot", "auc_mean", "Zero-shot AUC", 0.5, (0.4, 1.0),
             "Mean over findings: how often an image with the finding is nearer to its prompts than one without."),
    Headline("retrieval", "report_r1", "Report R@1", "report_r1_chance", (0.0, 1.0),
             "Share of radiographs whose own report (or one with equal text) is the nearest of the gallery."),
    Headline("retrieval", "report_r5", "Report R@5", "report_r5_chance", (0.0, 1.0),
             "Share of radiographs whose own report (or one with equal text) is among the five nearest."),
    Headline("retrieval", "report_r10", "Report R@10", "report_r10_chance", (0.0, 1.0),
             "Share of radiographs whose own report (or one with equal text) is among the ten nearest."),
    Headline("retrieval", "image_r5", "Image R@5", "image_r5_chance", (0.0, 1.0),
             "Share of reports whose own radiograph is among the five nearest."),
    Headline("grounding", "cnr", "Grounding CNR", 0.0, (-0.5, 2.0),
             "Signed contrast-to-noise ratio of the phrase's cosine map, inside against outside its boxes."),
    Headline("grounding", "miou", "Grounding mIoU", None, (0.0, 0.6),
             "Overlap of the thresholded cosine map with the boxes, mean over five thresholds."),
    Headline("grounding", "pointing", "Pointing game", "pointing_chance", (0.0, 1.0),
             "Share of phrases whose map peaks inside the boxes; chance is the boxes' share of the image."),
    Headline("linear_probe", "auc_mean", "Linear-probe AUC", 0.5, (0.4, 1.0),
             "Mean over findings of logistic regression on frozen image features, trained on training studies."),
    Headline("pixel_baseline", "auc_mean", "Pixel baseline AUC", 0.5, (0.4, 1.0),
             "The same regression on 32 x 32 pixels, without any model: how easy the exam is."),
)  # fmt: skip
"""In the order of every table and of the report page."""


@dataclass(frozen=True)
class Reported:
    """Figures that others published, on other data than ours: targets, never a comparison."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


REPORTED_NOTE = (
    "Reported by others on other data (arXiv 2401.01583): targets for full-size runs, not comparable with a phantom."
)

REPORTED = (
    Reported("Zero-shot AUC (%), RSNA Pneumonia", ("method", "AUC"), (
        ("GLoRIA", "71.45"), ("ConVIRT", "80.42"), ("BioViL", "82.80"), ("CheXzero", "85.79"), ("MedKLIP", "86.94"),
        ("paper's method", "90.28"),
    )),
    Reported("Zero-shot phrase grounding, MS-CXR", ("method", "mIoU", "CNR"), (
        ("ConVIRT", "0.238", "0.818"), ("GLoRIA", "0.246", "0.930"), ("BioViL", "0.266", "1.027"),
        ("paper's method", "0.298", "1.468"),
    )),
    Reported("Fine-tuned AUC (%), labels used 1 / 10 / 100 %", ("method", "CheXpert", "NIH ChestX-ray14", "RSNA"), (
        ("ConVIRT", "85.9 / 86.8 / 87.3", "-", "77.4 / 80.1 / 81.3"),
        ("GLoRIA", "86.6 / 87.8 / 88.1", "-", "86.1 / 88.0 / 88.6"),
        ("BioViL", "-", "-", "88.1 / 88.4 / 89.1"),
        ("M3AE", "86.2 / 87.3 / 87.9", "-", "89.0 / 90.8 / 92.3"),
        ("REFERS", "87.2 / 88.1 / 88.2", "76.7 / 80.9 / 84.7", "89.4 / 91.6 / 92.7"),
        ("MedKLIP", "-", "77.2 / 78.9 / 83.2", "87.3 / 88.0 / 89.3"),
        ("M-FLAG", "-", "62.2 / 71.6 / 78.7", "-"),
        ("paper's method", "88.2 / 88.2 / 88.3", "78.6 / 82.3 / 84.9", "91.7 / 92.1 / 93.0"),
    )),
    Reported("Segmentation Dice (%), SIIM-ACR Pneumothorax, labels used 1 / 10 / 100 %", ("method", "Dice"), (
        ("ConVIRT", "25.0 / 43.2 / 59.9"), ("GLoRIA", "35.8 / 46.9 / 63.4"), ("MGCA", "49.7 / 59.3 / 64.2"),
        ("M-FLAG", "52.5 / 61.2 / 64.8"), ("Med-UniC", "56.7 / 62.2 / 64.4"), ("paper's method", "57.8 / 70.3 / 84.4"),
    )),
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Titles and rows of text."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def headline_table(figures: Mapping[str, Any]) -> Table:
    """Return one row per headline figure that was measured: value, interval, untrained, chance."""
    rows = []
    for item in HEADLINES:
        found = figures.get(item.task, {})
        if item.name not in found:
            continue
        rows.append((
            item.title,
            number(found[item.name]),
            interval(found.get(f"{item.name}_interval")),
            with_interval(found, f"{item.name}_untrained"),
            number(chance_of(item, found)),
        ))  # fmt: skip
    return Table(("figure", "value", "95 % interval", "untrained", "chance"), rows)


def finding_table(figures: Mapping[str, Any]) -> Table:
    """Return one row per finding: AUC of zero-shot, linear probe and pixels, and the counts behind them."""
    tasks = [task for task in ("zero_shot", "linear_probe", "pixel_baseline") if figures.get(task, {}).get("auc")]
    names = sorted({name for task in tasks for name in figures[task]["auc"]})
    titles = {"zero_shot": "zero-shot AUC", "linear_probe": "linear probe", "pixel_baseline": "pixels"}
    rows = []
    for name in names:
        cells = [_finding_cell(figures[task], name) for task in tasks]
        counts = next(figures[task] for task in tasks if name in figures[task]["auc"])
        rows.append((spoken(name), f"{counts['positives'][name]:,}", f"{counts['negatives'][name]:,}", *cells))
    return Table(("finding", "positives", "negatives", *(titles[task] for task in tasks)), rows)


def _finding_cell(found: Mapping[str, Any], name: str) -> str:
    if name not in found["auc"]:
        return "-"
    bounds = found.get("auc_interval", {}).get(name)
    return number(found["auc"][name]) + (f" {interval(bounds)}" if bounds else "")


def chance_of(item: Headline, found: Mapping[str, Any]) -> float | None:
    """Return the chance level of a headline figure."""
    return found.get(item.chance) if isinstance(item.chance, str) else item.chance


def with_interval(found: Mapping[str, Any], name: str) -> str:
    """Return 'value [low, high]', or '-' when it was not measured."""
    if name not in found:
        return "-"
    bounds = found.get(f"{name}_interval")
    return number(found[name]) + (f" {interval(bounds)}" if bounds else "")


def spoken(name: str) -> str:
    """Return a key as words."""
    return name.replace("_", " ")


def number(value: float | None) -> str:
    """Return three decimals, or '-'."""
    return "-" if value is None else f"{value:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    """Return '[low, high]', or '-'."""
    return "-" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"


def word_columns(table: Table) -> list[bool]:
    """Return for each column whether it holds words, which stand left: the first one, and those with a cell that is no number."""
    return [
        place == 0 or any(row[place] and row[place][0] not in "0123456789+-[" for row in table.rows)
        for place in range(len(table.columns))
    ]


def as_text(table: Table) -> str:
    """Return the table for a terminal, columns aligned, words left and numbers right."""
    lines, words = [table.columns, *table.rows], word_columns(table)
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.columns))]
    rule = "  ".join("-" * width for width in widths)
    body = ["  ".join(_padded(cell, width, left) for cell, width, left in zip(line, widths, words, strict=True))
            for line in lines]  # fmt: skip
    return "\n".join([body[0].rstrip(), rule, *(line.rstrip() for line in body[1:])]) + "\n"


def _padded(cell: str, width: int, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)


def as_markdown(table: Table) -> str:
    """Return the table as Markdown."""
    lines = [table.columns, tuple("---" if left else "---:" for left in word_columns(table)), *table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

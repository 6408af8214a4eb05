"""The paper's tables with our figures on top and the reported ones below, as Markdown, CSV, LaTeX and HTML with plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.evaluation import markup
from msvl.evaluation.detail_tables import CLASSIFIERS, RATIOS, card_digests, detail_tables
from msvl.evaluation.paper_charts import group_chart, ratio_chart, reliability_chart
from msvl.evaluation.paper_page import write_page
from msvl.evaluation.tables import REPORTED, Table, as_markdown, number, spoken, word_columns

OTHERS = "reported by others (arXiv 2401.01583)"
NOTE = (
    "Rows marked as reported by others were measured by others on other data by other protocols: they are targets, and no "
    "comparison unless data, splits and card agree. `msvl protocol diff A B` says what differs."
)

PLOTTED = {"auc_mean": "mean AUC", "dice_image": "Dice per image"}
"""Figures of the charts in words."""


@dataclass(frozen=True)
class OwnRow:
    """Where our figures of a table stand."""

    who: str
    task: str
    figures: tuple[str, ...]


@dataclass(frozen=True)
class PaperTable:
    """One of the tables."""

    title: str
    columns: tuple[str, ...]
    """Titles of the figures."""
    own: tuple[OwnRow, ...]
    reported: str | None
    """Start of the title of the reported table, where there is one."""
    percent: bool
    """Figures times 100, as papers print them."""


def _at_ratios(figure: str) -> tuple[str, ...]:
    return tuple(f"{figure}_at_{ratio}" for ratio in RATIOS)


PAPER_TABLES = (
    PaperTable("Classification, AUC (%)", tuple(f"{ratio} %" for ratio in RATIOS), (
        OwnRow("fine-tuned", "fine_tuned", _at_ratios("auc_mean")),
        OwnRow("linear probe", "linear_probe", _at_ratios("auc_mean")),
    ), "Fine-tuned AUC", percent=True),
    PaperTable("Segmentation, Dice (%)", tuple(f"{ratio} %" for ratio in RATIOS), (
        OwnRow("per image, empty truth counts (headline)", "segmentation", _at_ratios("dice_image")),
        OwnRow("mean of batch means", "segmentation", _at_ratios("dice_batched")),
        OwnRow("pooled, with background", "segmentation", _at_ratios("dice_pooled")),
        OwnRow("images with a lesion alone", "segmentation", _at_ratios("dice_positive")),
        OwnRow("empty images marked (less is better)", "segmentation", _at_ratios("empty_false_positives")),
    ), "Segmentation Dice", percent=True),
    PaperTable("Zero-shot classification (%)", ("AUC", "F1 of positives", "F1 weighted", "accuracy"), (
        OwnRow("zero-shot", "zero_shot", ("auc_mean", "f1_mean", "f1_weighted_mean", "accuracy_mean")),
    ), "Zero-shot AUC", percent=True),
    PaperTable("Zero-shot phrase grounding", ("mIoU", "CNR", "CNR absolute", "pointing"), (
        OwnRow("mean over pairs", "grounding", ("miou_micro", "cnr_micro", "cnr_absolute_micro", "pointing_micro")),
        OwnRow("mean over categories", "grounding", ("miou_macro", "cnr_macro", "cnr_absolute_macro", "pointing_macro")),
    ), "Zero-shot phrase grounding", percent=False),
    PaperTable("Retrieval (%)", ("R@1", "R@5", "R@10"), (
        OwnRow("report for an image", "retrieval", ("report_r1", "report_r5", "report_r10")),
        OwnRow("image for a report", "retrieval", ("image_r1", "image_r5", "image_r10")),
    ), None, percent=True),
)  # fmt: skip


def build_tables(content: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Return title and table of everything that an evaluation by a protocol measured."""
    found = paper_tables(content)
    found += detail_tables(content)
    calibration = _calibration_rows(content["figures"])
    if calibration:
        title = f"Calibration, after Platt scaling on val; {card_digests(content['cards'], CLASSIFIERS)}"
        found.append((title, Table(("classifier", "Brier", "calibration error"), calibration)))
    found += [
        (f"Subgroups, {spoken(task)}, AUC (%); {card_digests(content['cards'], [task])}", _subgroup_table(groups))
        for task, groups in content["subgroups"].items()
    ]
    return found


def paper_tables(content: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Return title and table of the paper's tables that were measured, reported rows below."""
    found = []
    for item in PAPER_TABLES:
        own = list(_own_rows(item, content))
        if own:
            columns = ("who", "data", *item.columns, "source")
            found.append((item.title, Table(columns, [*own, *_reported_rows(item)])))
    return found


def _own_rows(item: PaperTable, content: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in item.own:
        figures = content["figures"].get(row.task, {})
        if not any(name in figures for name in row.figures):
            continue
        card = content["cards"][row.task]
        source = f"this model, card {card['card']} {card['digest']}"
        data = f"{content['data']['name']} {content['data']['split']}"
        yield f"**{row.who}**", data, *(_cell(figures, name, item.percent) for name in row.figures), source
        if any(f"{name}_untrained" in figures for name in row.figures):
            cells = (_cell(figures, f"{name}_untrained", item.percent) for name in row.figures)
            yield f"{row.who}, untrained twin", data, *cells, source
        twin = content.get("clean_twins", {}).get(row.task, {})
        if "figures" in twin:
            cells = (_cell(twin["figures"], name, item.percent) for name in row.figures)
            yield f"{row.who}, clean twin", data, *cells, f"this model, card {twin['card']} {twin['digest']}"
        if any(f"{name}_chance" in figures for name in row.figures):
            cells = (_cell(figures, f"{name}_chance", item.percent) for name in row.figures)
            yield f"{row.who}, chance", data, *cells, source


def _cell(figures: Mapping[str, Any], name: str, percent: bool) -> str:
    value = figures.get(name)
    if value is None:
        return "-"
    bounds = figures.get(f"{name}_interval")
    shown = _number(value, percent)
    return shown if not bounds else f"{shown} [{_number(bounds[0], percent)}, {_number(bounds[1], percent)}]"


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.1f}" if percent else number(value)


def _reported_rows(item: PaperTable) -> Iterator[tuple[str, ...]]:
    for reported in REPORTED:
        if item.reported is None or not reported.title.startswith(item.reported):
            continue
        by_ratio = "1 / 10 / 100" in reported.title
        data = reported.title.partition(", ")[2].removesuffix(", labels used 1 / 10 / 100 %")
        for method, *values in reported.rows:
            sets = reported.columns[1:] if len(reported.columns) > 2 and by_ratio else (data,)
            cells = [value.split(" / ") for value in values] if by_ratio else [values]
            for place, own in zip(sets, cells, strict=True):
                if own != ["-"]:
                    padded = [*own, *["-"] * (len(item.columns) - len(own))]
                    yield f"{method} (reported)", place, *padded, OTHERS


def _calibration_rows(figures: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for task, own in figures.items():
        for suffix in ("", *(f"_at_{ratio}" for ratio in RATIOS)):
            if f"brier{suffix}" in own:
                title = spoken(task) + (f", {suffix.removeprefix('_at_')} % of the labels" if suffix else "")
                rows.append((title, number(own[f"brier{suffix}"]), number(own[f"calibration_error{suffix}"])))
    return rows


def _subgroup_table(groups: Mapping[str, Any]) -> Table:
    names = list(dict.fromkeys(name for own in groups.values() for name in own if f"{name}_interval" in own))
    rows = [
        (group, f"{own['images']:,}", f"{own['patients']:,}", *(_cell(own, name, percent=True) for name in names))
        for group, own in groups.items()
    ]
    titles = ("AUC" + name.removeprefix("auc_mean").replace("_at_", ", ") + " %" * ("_at_" in name) for name in names)
    return Table(("group", "images", "patients", *titles), rows)


def write_tables(folder: Path, content: Mapping[str, Any]) -> list[Path]:
    """Write tables.md, tables.csv, tables.tex and tables.html; return their paths. Raises DataError."""
    tables = build_tables(content)
    texts = {"tables.md": _markdown(tables, content), "tables.csv": _csv(tables), "tables.tex": _latex(tables)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder} could not be written ({error.strerror}): free space and start again") from error
    write_page(folder / "tables.html", f"tables of {content['name']}", _html(tables, content))
    return [*(folder / name for name in texts), folder / "tables.html"]


def write_markdown(path: Path, content: Mapping[str, Any], *, command: str) -> None:
    """Write the tables as a page of documentation that names its command. Raises DataError."""
    text = _markdown(build_tables(content), content)
    head, rest = text.split("\n", 1)
    try:
        path.write_text(f"{head}\n\nMade by this command:\n\n```bash\n{command}\n```\n{rest}", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror}): choose another place for --page") from error


def card_lines(content: Mapping[str, Any]) -> list[str]:
    """Return what each card says about splits, deviations and leaks, a line each."""
    lines = []
    for task, card in content["cards"].items():
        seeds = content["figures"].get(task, {}).get("seeds", 1)
        over = f"; means over {seeds} seeds" if seeds > 1 else ""
        lines.append(f"{spoken(task)}: card {card['card']} {card['digest']}; splits: {card['splits']}{over}")
        lines += [f"{spoken(task)}: otherwise than its source: {text}" for text in card["deviations"]]
        lines += [f"{spoken(task)}: KNOWN FAULT of the published protocol: {text}" for text in card["leaks"]]
        lacking = ", ".join(card.get("findings_left_out", ()))
        if lacking:
            lines.append(f"{spoken(task)}: the mean leaves out {lacking}: one class alone in val or test")
        twin = content.get("clean_twins", {}).get(task)
        if twin is not None:
            how = (
                f"not judged: {twin['left_out']}"
                if "left_out" in twin
                else f"stands beside it; splits: {twin['splits']}"
            )
            lines.append(f"{spoken(task)}: the clean twin by card {twin['card']} {how}")
    return lines


def _markdown(tables: Sequence[tuple[str, Table]], content: Mapping[str, Any]) -> str:
    parts = [f"# {content['name']}\n\n{NOTE}\n"]
    parts += [f"## {title}\n\n{as_markdown(table)}" for title, table in tables]
    parts.append("## Cards\n\n" + "\n".join(f"- {line}" for line in card_lines(content)) + "\n")
    return "\n".join(parts)


def _csv(tables: Sequence[tuple[str, Table]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for title, table in tables:
        writer.writerow(["table", *table.columns])
        writer.writerows([title, *(cell.strip("*") for cell in row)] for row in table.rows)
    return stream.getvalue()


def _latex(tables: Sequence[tuple[str, Table]]) -> str:
    parts = [f"% {NOTE}"]
    for title, table in tables:
        lines = [
            rf"\begin{{tabular}}{{{''.join('l' if left else 'r' for left in word_columns(table))}}}",
            r"\hline",
            " & ".join(map(_tex, table.columns)) + r" \\",
            r"\hline",
            *(" & ".join(map(_tex, row)) + r" \\" for row in table.rows),
            r"\hline",
            r"\end{tabular}",
        ]
        parts.append(f"% {title}\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _tex(text: str) -> str:
    bold = text.startswith("**")
    for sign in "&%$#_{}":
        text = text.replace(sign, f"\\{sign}")
    return rf"\textbf{{{text.strip('*')}}}" if bold else text


def _html(tables: Sequence[tuple[str, Table]], content: Mapping[str, Any]) -> str:
    parts = [f'<p class="notice">{markup.prose(NOTE)}</p>', _plots(content["figures"], content["subgroups"])]
    parts += [markup.section(title, "", markup.table(table, "")) for title, table in tables]
    parts.append(markup.section("Cards", "What every figure was measured by.", markup.notes(card_lines(content))))
    return "".join(parts)


def _plots(figures: Mapping[str, Any], subgroups: Mapping[str, Any]) -> str:
    cards = []
    for task, figure in (("fine_tuned", "auc_mean"), ("linear_probe", "auc_mean"), ("segmentation", "dice_image")):
        own = figures.get(task, {})
        if all(f"{figure}_at_{ratio}" in own for ratio in RATIOS):
            cards.append(
                (
                    f"{spoken(task)}: {PLOTTED[figure]} by share of the labels, dashed: untrained",
                    ratio_chart(own, figure),
                )
            )
    for task, own in figures.items():
        if "reliability_said" in own:
            chart = reliability_chart(own["reliability_said"], own["reliability_happened"], own["reliability_count"])
            cards.append((f"{spoken(task)}: what was said and what happened", chart))
    cards += _group_plots(figures, subgroups)
    inner = "".join(
        f'<figure class="card" style="margin:0"><h3>{escape(title)}</h3>{svg}</figure>' for title, svg in cards
    )
    return markup.section("Plots", "", f'<div class="grid">{inner}</div>' if inner else "")


def _group_plots(figures: Mapping[str, Any], subgroups: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return title and chart of each classifier's AUC by group, at its largest share of the labels."""
    found = []
    for task, groups in subgroups.items():
        names = [name for own in groups.values() for name in own if name.startswith("auc_mean") and not name.endswith("_interval")]  # fmt: skip
        if names:
            shown = {group: own for group, own in groups.items() if names[-1] in own}
            values = {group: own[names[-1]] for group, own in shown.items()}
            bounds = {group: own.get(f"{names[-1]}_interval") for group, own in shown.items()}
            title = f"{spoken(task)}: mean AUC by group, dashed: all images"
            found.append((title, group_chart(values, bounds, figures[task].get(names[-1]))))
    return found

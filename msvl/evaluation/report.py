"""The page of a run: `runs/NAME/report.html`, one file without script, font or picture from elsewhere."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from msvl.config.errors import DataError
from msvl.evaluation import markup
from msvl.evaluation.caveats import caveats
from msvl.evaluation.charts import line_chart, track
from msvl.evaluation.paper_tables import card_lines, paper_tables
from msvl.evaluation.report_examples import grounding_section, pairs_section
from msvl.evaluation.results import write_results
from msvl.evaluation.run_record import RunRecord, read_run
from msvl.evaluation.scales import scale_figures, scale_table
from msvl.evaluation.tables import (
    HEADLINES,
    REPORTED,
    REPORTED_NOTE,
    Headline,
    Table,
    chance_of,
    finding_table,
    headline_table,
    interval,
    number,
    spoken,
    with_interval,
)

CARDS = frozenset({
    ("zero_shot", "auc_mean"), ("retrieval", "report_r5"), ("grounding", "cnr"), ("grounding", "miou"),
    ("linear_probe", "auc_mean"), ("pixel_baseline", "auc_mean"),
})  # fmt: skip
"""Headline figures that get a card; the others stand in the table."""

SCALE_COLOURS = {
    "total": "#1c2530",
    "global": "#0f6a8b",
    "local": "#7a4fa3",
    "instance": "#b0542a",
    "modality": "#2f7d4f",
}


def write_report(run: Path) -> tuple[Path, dict[str, Any]]:
    """Write `report.html` and `results.json` into a run folder.

    Args:
        run: Run folder, with metrics, evaluations or both.

    Returns:
        The page's path and the content of results.json.

    Raises:
        DataError: The folder is missing, empty, damaged or cannot be written.
    """
    results = write_results(run)
    page = render(read_run(run), results)
    path = run / "report.html"
    try:
        path.touch(mode=0o600)  # it shows reports and radiographs
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path} could not be written ({error.strerror}): free space and repeat `msvl report {run}`"
        ) from error
    return path, results


def render(record: RunRecord, results: Mapping[str, Any]) -> str:
    """Return the page."""
    headline = record.evaluations[0] if record.evaluations else None
    parts = [_opening(record, headline)]
    if headline is None:
        parts.append(f'<p class="notice">Not judged yet: <code>msvl evaluate {escape(str(record.path))}</code></p>')
    else:
        parts += [_figures(headline), _findings(headline["figures"])]
    parts.append(_curves(record))
    if headline is not None:
        parts += [
            grounding_section(record, headline),
            pairs_section(record, headline),
            _by_protocol(record),
            _others(record),
        ]
        lead = "Read this before quoting a figure."
        parts.append(markup.section("What these figures do not prove", lead, markup.notes(caveats(record))))
    parts += [_reported(), _behind(record, results), _closing()]
    template = importlib.resources.files("msvl.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(f"msvl run {record.name}"), body="\n".join(filter(None, parts)))


def _opening(record: RunRecord, headline: Mapping[str, Any] | None) -> str:
    facts = record.run.get("facts", {})
    shown = []
    if record.metrics:
        shown.append(f"{int(record.metrics[-1]['step']):,} steps")
    if "parameters" in facts:
        shown.append(f"{facts['parameters']:,} parameters")
    if "ranks" in facts:
        shown.append(f"{facts['ranks']} ranks, ZeRO-{facts.get('zero_stage', '?')}, {facts.get('precision', '?')}")
    text = ""
    if headline is not None:
        data = headline["data"]
        shown.append(
            f"{data['name']}, split {data['split']}: {data['images']:,} images of {data['patients']:,} patients"
        )
        step = headline["model"]["step"]
        shown.append("judged " + (f"at step {step:,}" if step is not None else "from an exported model"))
        if not data["shareable"]:
            text = (
                '<p class="notice">This page contains radiographs and report text of patients '
                f"({escape(str(data['licence']))}). Keep it where the data may be kept; do not publish it.</p>"
            )
    return (
        f'<header><h1>{escape(record.name)}</h1><p class="quiet">A pretraining run of msvl, and the model on '
        f"patients that it has never seen. Research use, not a medical device.</p>{markup.badges(shown)}{text}</header>"
    )


def _figures(headline: Mapping[str, Any]) -> str:
    figures = headline["figures"]
    cards = [
        _card(item, figures[item.task])
        for item in HEADLINES
        if (item.task, item.name) in CARDS and item.name in figures.get(item.task, {})
    ]
    content = f'{markup.KEY}<div class="grid">{"".join(cards)}</div>' + markup.table(
        headline_table(figures), "All figures"
    )
    lead = "Intervals are percentile bootstraps over patients."
    if "protocol" in headline:
        lead += f" Measured by protocol {headline['protocol']}, whose cards are named below."
    return markup.section("What the model can do", lead, content)


def _card(item: Headline, found: Mapping[str, Any]) -> str:
    chance, bounds = chance_of(item, found), found.get(f"{item.name}_interval")
    untrained = found.get(f"{item.name}_untrained")
    beside = []
    if untrained is not None:
        beside.append(f"untrained {with_interval(found, f'{item.name}_untrained')}")
    if chance is not None:
        beside.append(f"chance {number(chance)}")
    drawing = track(found[item.name], bounds, scale=item.scale, chance=chance, untrained=untrained)
    value = f"{number(found[item.name])} <small>{interval(bounds) if bounds else ''}</small>"
    return (
        f'<article class="card"><h3>{escape(item.title)}</h3><div class="figure">{value}</div>{drawing}'
        f'<p class="beside">{"<br>".join(escape(line) for line in beside)}</p>'
        f'<p class="quiet">{escape(item.meaning)}</p></article>'
    )


def _findings(figures: Mapping[str, Any]) -> str:
    parts = []
    by_finding = finding_table(figures)
    if by_finding.rows:
        parts.append(markup.table(by_finding, "Classification"))
    grounding = figures.get("grounding", {})
    if grounding.get("cnr_by_finding"):
        rows = [
            (spoken(name), *(number(grounding[f"{kind}_by_finding"][name]) for kind in ("cnr", "miou", "pointing")))
            for name in grounding["cnr_by_finding"]
        ]
        parts.append(markup.table(Table(("finding", "CNR", "mIoU", "pointing"), rows), "Phrase grounding"))
    return markup.section("By finding", "", "".join(parts))


def _curves(record: RunRecord) -> str:
    cards = []
    for name in record.series_names("loss/"):
        scale = name.removeprefix("loss/")
        chart = line_chart(record.series(name), label=f"{scale} loss", colour=SCALE_COLOURS.get(scale, "#0f6a8b"))
        cards.append(f'<figure class="card" style="margin:0"><h3>{escape(spoken(scale))}</h3>{chart}</figure>')
    learnt = [
        (spoken(name.removeprefix("train/")), number(points[0][1]), number(points[-1][1]))
        for name in record.series_names("train/")
        if (points := record.series(name))
    ]
    content = f'<div class="grid">{"".join(cards)}</div>' if cards else ""
    signs = scale_table(scale_figures(record))
    if signs.rows:
        content += markup.table(signs, "Has every scale learnt?")
    if learnt:
        content += markup.folded(
            "What else was measured in training", markup.table(Table(("metric", "first", "last"), learnt), "")
        )
    return markup.section("Loss per scale", "Mean over all ranks, training batches.", content)


def _others(record: RunRecord) -> str:
    content = "".join(
        markup.table(
            headline_table(item["figures"]),
            f"{item['name']}: {item['data']['images']:,} images of {item['data']['patients']:,} patients",
        )
        for item in record.evaluations[1:]
        if "protocol" not in item
    )
    return markup.section("On other data", "The same model, judged elsewhere without further training.", content)


def _by_protocol(record: RunRecord) -> str:
    """Return the paper's tables of every judgement by a protocol; each row names its card."""
    parts = []
    for item in record.evaluations:
        if "protocol" not in item:
            continue
        page = f"evaluation/{item['name']}-tables/tables.html"
        parts.append(
            f'<h3>{escape(item["name"])}</h3><p>All of it, with plots: <a href="{escape(page)}">{escape(page)}</a></p>'
        )
        parts += [markup.table(table, title) for title, table in paper_tables(item)]
        parts.append(markup.folded("What it was measured by", markup.notes(card_lines(item))))
    lead = "Probes and fine-tuning learn from shares of the labels; rows of others were measured on other data, by other protocols."
    return markup.section("By protocol", lead, "".join(parts))


def _reported() -> str:
    tables = "".join(markup.table(Table(item.columns, list(item.rows)), item.title) for item in REPORTED)
    return markup.section("What others reported", REPORTED_NOTE, markup.folded("Show the published tables", tables))


def _behind(record: RunRecord, results: Mapping[str, Any]) -> str:
    rows = [(spoken(name), f"{value:,.1f}") for name, value in results.get("seconds", {}).items()]
    parts = []
    if rows:
        pace = results.get("throughput", {}).get("pairs_per_second")
        parts.append(
            markup.table(
                Table(("phase", "seconds"), rows), "Time" + (f", {pace:,.0f} pairs/s in training" if pace else "")
            )
        )
    if record.config:
        parts.append(markup.folded("Configuration", f"<pre>{escape(record.config)}</pre>"))
    for title, content in (
        ("Facts read from the engine", results.get("facts")),
        ("Versions", results.get("versions")),
        ("Judgement", results.get("judged")),
        ("Attempts", record.run.get("attempts")),
    ):
        if content:
            parts.append(markup.folded(title, f"<pre>{escape(json.dumps(content, indent=2))}</pre>"))
    commit = results.get("git_commit")
    lead = f"Commit {commit}." if commit else ""
    return markup.section("Behind the figures", lead, "".join(parts))


def _closing() -> str:
    return "<footer>Made by <code>msvl report</code>; this file loads nothing from the network.</footer>"

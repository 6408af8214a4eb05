"""What the rows of an ablation say: means over seeds, differences paired by seed and patient, what each scale adds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msvl.evaluation.answers import Columns
from msvl.evaluation.tables import Table, as_markdown, number

SCALES = ("local", "instance", "modality")
IMAGE_ONLY = "image-only"
FULL = "local+instance+modality"
"""The row that the others are compared with."""
SHOWN = (
    ("fine_tuned", "auc_mean_at_1", "fine-tuned AUC, 1 %"),
    ("zero_shot", "auc_mean", "zero-shot AUC"),
    ("linear_probe", "auc_mean_at_1", "probe AUC, 1 %"),
    ("linear_probe", "auc_mean_at_100", "probe AUC, 100 %"),
    ("retrieval", "report_r5", "report R@5"),
    ("grounding", "miou", "grounding mIoU"),
    ("grounding", "cnr", "grounding CNR"),
)
"""Task, figure, title, the paper's two first; those that were not measured are left out."""

Key = tuple[str, int]
"""Row and seed."""


def summarise(
    contents: Mapping[Key, Mapping[str, Any]], columns: Mapping[Key, Mapping[str, Columns]], *, resamples: int
) -> dict[str, Any]:
    """Return per row the mean of each figure over seeds, every seed's value, and the paired difference to the full method.

    Args:
        contents: (row, seed) -> content of its evaluation.
        columns: (row, seed) -> task -> per-sample columns.
        resamples: Bootstrap draws over patients; seeds are averaged inside each draw.
    """
    seeds = sorted({seed for _, seed in contents})
    names = list(dict.fromkeys(name for name, _ in contents))
    values = {
        (task, figure): {
            key: content["figures"].get(task, {}).get(figure) for key, content in contents.items()
        }
        for task, figure, _ in SHOWN
    }  # fmt: skip
    rows: dict[str, Any] = {}
    for name in names:
        rows[name] = {}
        for (task, figure), found in values.items():
            own = [found[name, seed] for seed in seeds]
            if None in own:
                continue
            entry: dict[str, Any] = {"mean": sum(own) / len(own), "seeds": own}
            if name != FULL and FULL in names:
                entry |= _paired(columns, values, [(FULL, name)], task, figure, seeds, resamples)
            rows[name][f"{task}.{figure}"] = entry
    adds: dict[str, Any] = {}
    for scale in SCALES:
        pairs = [(less, more) for less, more in _pairs(scale) if less in names and more in names]
        adds[scale] = {
            f"{task}.{figure}": _paired(columns, values, pairs, task, figure, seeds, resamples)
            for (task, figure), found in values.items()
            if pairs and None not in found.values()
        }
    first = next(iter(contents.values()))
    return {"seeds": seeds, "cards": first["cards"], "data": first["data"], "rows": rows, "adds": adds}


def _pairs(scale: str) -> list[tuple[str, str]]:
    """Return the pairs of rows that differ by one scale alone, the one without it first."""
    others = [other for other in SCALES if other != scale]
    without = [(others[0],), (others[1],), tuple(others)]
    return [
        ("+".join(less), "+".join(name for name in SCALES if name in (*less, scale)))
        for less in without
    ]  # fmt: skip


def _paired(
    columns: Mapping[Key, Mapping[str, Columns]],
    values: Mapping[tuple[str, str], Mapping[Key, float]],
    pairs: Sequence[tuple[str, str]],
    task: str,
    figure: str,
    seeds: Sequence[int],
    resamples: int,
) -> dict[str, Any]:
    """Return second minus first, mean over pairs of rows: the same seeds, the same patients drawn for both."""
    from msvl.evaluation.compare import compare_columns

    def over_seeds(side: int) -> Columns:
        return {
            f"{figure}/pair{place}/training{seed}/{part}": column
            for place, pair in enumerate(pairs)
            for seed in seeds
            for part, column in columns[pair[side], seed].get(task, {}).items()
            if part == figure or part.startswith(f"{figure}/")
        }

    item = compare_columns(over_seeds(0), over_seeds(1), task, resamples=resamples, seed=0).get(figure)
    if item is None:
        return {}
    found = values[task, figure]
    by_seed = [sum(found[more, seed] - found[less, seed] for less, more in pairs) / len(pairs) for seed in seeds]
    return {"difference": item["difference"], "interval": item["interval"], "seed_differences": by_seed}


def verdict(entry: Mapping[str, Any]) -> str:
    """Return 'better', 'worse' or 'tie': told apart where the interval leaves out 0 and every seed has the same sign."""
    signs = {value > 0 for value in entry["seed_differences"]}
    bounds = entry["interval"]
    if bounds is None or len(signs) > 1 or bounds[0] <= 0 <= bounds[1]:
        return "tie"
    return "better" if signs == {True} else "worse"


def shown_figures(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return key and title of the figures that some row has."""
    return [
        (f"{task}.{figure}", title)
        for task, figure, title in SHOWN
        if any(f"{task}.{figure}" in own for own in result["rows"].values())
    ]


def ablation_table(result: Mapping[str, Any]) -> Table:
    """Return one row per set of scales: mean over seeds and, in brackets, the paired interval of the difference."""
    shown = shown_figures(result)
    lines = []
    for name, figures in result["rows"].items():
        cells = []
        for key, _ in shown:
            entry = figures.get(key)
            cell = "-" if entry is None else number(entry["mean"])
            if entry is not None and entry.get("interval"):
                cell += f" ({_change(entry)})"
            cells.append(cell)
        lines.append((row_title(name), *cells))
    return Table(("scales", *(title for _, title in shown)), lines)


def row_title(name: str) -> str:
    """Return a row's name as the table prints it."""
    return "images alone (masked)" if name == IMAGE_ONLY else f"global+{name}"


def adds_table(result: Mapping[str, Any]) -> Table:
    """Return one row per scale: what it adds, mean over the pairs of rows that differ by it alone."""
    shown = shown_figures(result)
    lines = [
        (scale, *(f"{_change(own[key])} {verdict(own[key])}" if own.get(key) else "-" for key, _ in shown))
        for scale, own in result["adds"].items()
        if own
    ]
    return Table(("scale added", *(title for _, title in shown)), lines)


def _change(entry: Mapping[str, Any]) -> str:
    change = f"{entry['difference']:+.3f}"
    if entry["interval"]:
        low, high = entry["interval"]
        change += f" [{low:+.3f}, {high:+.3f}]"
    return change


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what the table says, a sentence per scale and one on images alone."""
    titles = dict(shown_figures(result))
    found = []
    for scale, own in result["adds"].items():
        if own:
            found.append(f"Adding the {scale} scale: {_verdicts(own, titles)}.")
    alone = result["rows"].get(IMAGE_ONLY, {})
    compared = {key: entry for key, entry in alone.items() if "interval" in entry}
    if compared:
        found.append(f"Images alone against all scales: {_verdicts(compared, titles)}.")
    return found


def _verdicts(own: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    groups: dict[str, list[str]] = {"better": [], "worse": [], "tie": []}
    for key, entry in own.items():
        if entry:
            groups[verdict(entry)].append(titles[key])
    words = {"better": "better in", "worse": "worse in", "tie": "a tie in"}
    return "; ".join(f"{words[kind]} {', '.join(names)}" for kind, names in groups.items() if names)


def page(result: Mapping[str, Any], command: str) -> str:
    """Return the ablation as a page: tables, what they say, what they do not say, every seed's value."""
    cards = ", ".join(f"{card['card']} {card['digest']}" for card in result["cards"].values())
    seeds = ", ".join(map(str, result["seeds"]))
    data = result["data"]
    said = "\n".join(f"- {sentence}" for sentence in sentences(result))
    adds, many = adds_table(result), len(result["seeds"])
    every = {
        row_title(name): {key: [round(value, 4) for value in entry["seeds"]] for key, entry in own.items()}
        for name, own in result["rows"].items()
    }
    parts = [
        f"# What each scale adds, on {data['name']}\n",
        f"Made by this command; repeat it to go on after a stop, finished cells are read:\n\n```bash\n{command}\n```\n",
        f"Judged on {data['images']:,} images of {data['patients']:,} patients, split {data['split']}. Means over training seeds {seeds}. "
        "In brackets: difference to all scales, paired by seed and patient, with its 95 % interval over patients. The last "
        f"checkpoint is judged, nothing is selected. Cards: {cards}.\n",
        as_markdown(ablation_table(result)),
        *((
            "What a scale adds is the mean over the three pairs of rows that differ by it alone. Two rows are told apart where the interval "
            "leaves out 0 and every seed has the same sign; anything else is a tie.\n",
            as_markdown(adds),
        ) if adds.rows else ()),
        *((f"## What it says\n\n{said}\n",) if said else ()),
        "## What it does not say\n\n"
        "- Nothing about patients where the data are simulated, and nothing about other sizes of model, batch or data.\n"
        "- Nothing about longer training: a scale may help early and not at the end, or the reverse.\n"
        f"- The intervals are over patients; with {many} seed{'s' * (many > 1)} the luck of training is known roughly, so all signs are asked "
        "for. A tie means that this experiment could not tell, not that there is no difference.\n"
        "- Each row trains the same number of steps; a row with fewer scales takes less time per step.\n",
        f"## Every seed\n\n```json\n{json.dumps(every, indent=1)}\n```\n",
    ]  # fmt: skip
    return "\n".join(parts)

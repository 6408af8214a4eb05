"""`msvl ablation CONFIG`: what each scale adds. Every row is trained with every seed, judged by one protocol, and paired."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msvl.config.errors import ConfigError, MsvlError
from msvl.environment import die_with_parent
from msvl.evaluation.answers import Columns
from msvl.evaluation.figures import read_json, write_json
from msvl.evaluation.tables import Table, as_markdown, as_text, number
from msvl.training.finished import MARKER, step_folder

SCALES = ("local", "instance", "modality")
IMAGE_ONLY = "image-only"
FULL = "local+instance+modality"
"""The row that the others are compared with."""
TASKS = ("zero_shot", "linear_probe", "retrieval", "grounding")
SHOWN = (
    ("zero_shot", "auc_mean", "zero-shot AUC"),
    ("linear_probe", "auc_mean_at_1", "probe AUC, 1 %"),
    ("linear_probe", "auc_mean_at_100", "probe AUC, 100 %"),
    ("fine_tuned", "auc_mean_at_1", "fine-tuned AUC, 1 %"),
    ("retrieval", "report_r5", "report R@5"),
    ("grounding", "miou", "grounding mIoU"),
    ("grounding", "cnr", "grounding CNR"),
)
"""Task, figure, title; those that were not measured are left out."""
STDERR = 2
"""File descriptor."""
EXAMPLE = "Example: msvl ablation configs/pretrain/quickstart.yaml --seeds 0,1,2 train.steps=320"


@dataclass(frozen=True)
class Row:
    """A set of scales."""

    name: str
    overrides: tuple[str, ...]


def rows() -> list[Row]:
    """Return the paper's seven rows (global is always on), and masked autoencoding of images alone."""
    found = []
    for mask in range(1, 2 ** len(SCALES)):
        on = [scale for place, scale in enumerate(SCALES) if mask >> place & 1]
        off = tuple(f"objectives.{scale}.weight=0" for scale in SCALES if scale not in on)
        found.append(Row("+".join(on), off))
    found.sort(key=lambda row: (row.name.count("+"), [SCALES.index(scale) for scale in row.name.split("+")]))
    alone = tuple(f"objectives.{scale}.weight=0" for scale in ("global", "local", "instance"))
    return [
        *found,
        Row(IMAGE_ONLY, (*alone, "objectives.modality.text_weight=0", "objectives.modality.cross_sample_weight=0")),
    ]


class RowFailed(MsvlError):
    """A command of a row ended with an exit code; its own message stands above."""


def add_parsers(groups: Any) -> None:
    """Add `msvl ablation`."""
    parser = groups.add_parser(
        "ablation", help="what each scale adds: every row, several seeds, paired", epilog=EXAMPLE
    )
    parser.add_argument("config", help="YAML file of the full method, see configs/pretrain/")
    parser.add_argument("--seeds", default="0,1,2", metavar="A,B", help="seeds of training (default: 0,1,2)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/ablation"), help="folder of runs and table (default: runs/ablation)"
    )
    parser.add_argument("--protocol", default="clean", help="protocol that judges (default: clean)")
    parser.add_argument("--tasks", default=",".join(TASKS), help=f"tasks (default: {','.join(TASKS)})")
    parser.add_argument("--rows", metavar="A,B", help="these rows alone, such as local,image-only (default: all eight)")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap draws over patients (default: 1000)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="change values of the configuration in every row"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and judge what is missing, then write ablation.json and ablation.md; repeat it to go on after a stop."""
    seeds = _seeds(arguments.seeds)
    chosen = _chosen(arguments.rows)
    names = {}
    for seed in seeds:  # seed by seed, so that a table of all rows exists early
        for row in chosen:
            names[row.name, seed] = _judged(row, seed, arguments)
    from msvl.evaluation.answers import read_columns  # numpy and torch: only after everything is measured

    columns = {key: read_columns(path.with_name(f"{path.stem}-samples.npz")) for key, path in names.items()}
    contents = {key: read_json(path, made_by="msvl ablation") for key, path in names.items()}
    result = summarise(contents, columns, resamples=arguments.resamples)
    write_json(arguments.out / "ablation.json", result)
    table = ablation_table(result)
    (arguments.out / "ablation.md").write_text(_page(result, table), encoding="utf-8")
    sys.stdout.write(as_text(table))
    sys.stderr.write(f"Wrote {arguments.out / 'ablation.md'} and ablation.json\n")
    return 0


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--seeds {text}: give whole numbers, separated by commas") from error
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds {text}: give different numbers, 0 or more, such as 0,1,2")
    return seeds


def _chosen(text: str | None) -> list[Row]:
    known = {row.name: row for row in rows()}
    if text is None:
        return list(known.values())
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ConfigError(f"--rows {text}: the rows are {', '.join(known)}")
    return [known[name] for name in names]


def _judged(row: Row, seed: int, arguments: argparse.Namespace) -> Path:
    """Train one row with one seed and judge its last checkpoint, unless that is done; return the figures' file."""
    name = f"{row.name.replace('+', '-')}-seed{seed}"
    folder = arguments.out / name
    overrides = [*arguments.overrides, *row.overrides, f"train.seed={seed}", f"run.name={name}", f"run.folder={arguments.out}"]  # fmt: skip
    last = step_folder(folder / "checkpoints", _steps(arguments.config, overrides))
    if not (last / MARKER).is_file():
        resume = ["--resume"] if folder.exists() else []
        _msvl(["train", arguments.config, *resume, *overrides])
    result = folder / "evaluation" / "ablation.json"
    words = ["evaluate", str(last), "--protocol", arguments.protocol, "--tasks", arguments.tasks, "--name", "ablation"]
    # Finished units are read: a judgement that is there costs seconds, and one by another protocol is replaced.
    _msvl([*words, "--resamples", str(arguments.resamples)])
    return result


def _steps(config: str, overrides: Sequence[str]) -> int:
    from msvl.config.load import load_config
    from msvl.training.config import PretrainConfig

    return load_config(config, list(overrides), PretrainConfig).train.steps


def _msvl(words: Sequence[str]) -> None:
    sys.stderr.write(f"\n$ msvl {' '.join(words)}\n")
    sys.stderr.flush()
    code = subprocess.run(
        [sys.executable, "-m", "msvl.cli", *words],
        check=False,
        stdout=STDERR,  # stdout is for the table
        preexec_fn=die_with_parent,  # noqa: PLW1509 - single-threaded here, and no orphan may stay
    ).returncode
    if code:
        raise RowFailed(f"the command above ended with exit code {code}: repeat `msvl ablation` to go on")


def summarise(
    contents: Mapping[tuple[str, int], Mapping[str, Any]],
    columns: Mapping[tuple[str, int], Mapping[str, Columns]],
    *,
    resamples: int,
) -> dict[str, Any]:
    """Return per row the mean of each figure over seeds, every seed's value, and the paired difference to the full method.

    Args:
        contents: (row, seed) -> content of its evaluation.
        columns: (row, seed) -> task -> per-sample columns.
        resamples: Bootstrap draws over patients; seeds are averaged inside each draw.
    """
    seeds = sorted({seed for _, seed in contents})
    names = list(dict.fromkeys(name for name, _ in contents))
    found: dict[str, Any] = {}
    for name in names:
        figures: dict[str, Any] = {}
        for task, figure, _ in SHOWN:
            values = [contents[name, seed]["figures"].get(task, {}).get(figure) for seed in seeds]
            if None in values:
                continue
            entry: dict[str, Any] = {"mean": sum(values) / len(values), "seeds": values}
            if name != FULL and FULL in names:
                entry |= _paired(columns, name, task, figure, seeds, resamples)
            figures[f"{task}.{figure}"] = entry
        found[name] = figures
    first = next(iter(contents.values()))
    return {"seeds": seeds, "cards": first["cards"], "data": first["data"], "rows": found}


def _paired(
    columns: Mapping[tuple[str, int], Mapping[str, Columns]],
    name: str,
    task: str,
    figure: str,
    seeds: list[int],
    resamples: int,
) -> dict[str, Any]:
    """Return the difference to the full method: the same seeds, the same patients drawn for both."""
    from msvl.evaluation.compare import compare_columns

    def over_seeds(row: str) -> Columns:
        return {
            f"{figure}/training{seed}/{part}": column
            for seed in seeds
            for part, column in columns[row, seed].get(task, {}).items()
            if part == figure or part.startswith(f"{figure}/")
        }

    item = compare_columns(over_seeds(FULL), over_seeds(name), task, resamples=resamples, seed=0).get(figure)
    return {} if item is None else {"difference": item["difference"], "interval": item["interval"]}


def ablation_table(result: Mapping[str, Any]) -> Table:
    """Return one row per set of scales: mean over seeds and, in brackets, the paired interval of the difference."""
    shown = [(f"{task}.{figure}", title) for task, figure, title in SHOWN if any(f"{task}.{figure}" in own for own in result["rows"].values())]  # fmt: skip
    lines = []
    for name, figures in result["rows"].items():
        cells = []
        for key, _ in shown:
            entry = figures.get(key)
            cell = "-" if entry is None else number(entry["mean"])
            if entry is not None and entry.get("interval"):
                low, high = entry["interval"]
                cell += f" ({entry['difference']:+.3f} [{low:+.3f}, {high:+.3f}])"
            cells.append(cell)
        lines.append(("images alone (masked)" if name == IMAGE_ONLY else f"global+{name}", *cells))
    return Table(("scales", *(title for _, title in shown)), lines)


def _page(result: Mapping[str, Any], table: Table) -> str:
    cards = ", ".join(f"{card['card']} {card['digest']}" for card in result["cards"].values())
    return (
        f"# Ablation on {result['data']['name']}\n\nMean over seeds {', '.join(map(str, result['seeds']))}. In brackets: "
        "difference to all scales, paired by seed and patient, with its 95 % interval over patients; one that holds 0 is a "
        f"tie. The last checkpoint is judged, nothing is selected. Cards: {cards}.\n\n{as_markdown(table)}\n"
        f"Every seed's value: {json.dumps({name: {key: [round(v, 4) for v in entry['seeds']] for key, entry in own.items()} for name, own in result['rows'].items()})}\n"
    )

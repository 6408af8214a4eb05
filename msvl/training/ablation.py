"""`msvl ablation CONFIG`: what each scale adds. Every row is trained with every seed, judged by one protocol, and paired."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msvl.config.errors import ConfigError, DataError
from msvl.environment import accelerators
from msvl.evaluation.figures import read_json, write_json
from msvl.evaluation.protocol import Protocol, read_protocol
from msvl.evaluation.tables import as_text
from msvl.training.ablation_table import IMAGE_ONLY, SCALES, ablation_table, page, sentences, summarise
from msvl.training.ablation_work import Cell, Row, say, work
from msvl.training.finished import MARKER, step_folder

if TYPE_CHECKING:
    from msvl.training.config import PretrainConfig

TASKS = ("zero_shot", "linear_probe", "retrieval", "grounding", "fine_tuned")
MOST_CELLS = 8
"""At once without GPUs: each keeps a model, its optimizer and a judged split in memory."""
WITHOUT_EFFECT = ("run.", "wandb.", "validation.", "train.threads_per_rank", "train.save_every", "train.log_every")
"""Keys of a configuration that change no figure of a row, whose last checkpoint is judged."""
EXAMPLE = "Example: msvl ablation configs/pretrain/quickstart.yaml --seeds 0,1,2 train.steps=320"


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
    parser.add_argument("--protocol", default="ablation", help="protocol that judges (default: ablation)")
    parser.add_argument("--tasks", default=",".join(TASKS), help=f"tasks (default: {','.join(TASKS)})")
    parser.add_argument("--rows", metavar="A,B", help="these rows alone, such as local,image-only (default: all eight)")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap draws over patients (default: 1000)")
    parser.add_argument(
        "--parallel", type=int, metavar="N",
        help="rows trained at once, each on one rank and one thread (default: one per core without GPUs, else 1 on all GPUs)",
    )  # fmt: skip
    parser.add_argument("--at-most", type=int, metavar="N", help="stop after N rows that were not finished before")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page here too, such as docs/ablation.md")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="change values of the configuration in every row"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and judge what is missing, then write ablation.json and ablation.md; repeat it to go on after a stop."""
    seeds, chosen = _seeds(arguments.seeds), _chosen(arguments.rows)
    for option in ("parallel", "at_most"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise ConfigError(f"--{option.replace('_', '-')} {value}: give 1 or more")
    parallel = _parallel(arguments)
    protocol = read_protocol(arguments.protocol)
    # Seed by seed, so that a table of all rows exists early.
    cells = [_cell(row, seed, arguments, protocol, parallel) for seed in seeds for row in chosen]
    missing = [cell for cell in cells if cell.commands]
    say(f"{len(cells)} cells, {len(cells) - len(missing)} of them finished before; {parallel} at once")

    def finished(cell: Cell) -> None:
        if not any(other.commands for other in cells if other.seed == cell.seed):
            _write(arguments, cells, seeds)

    work(missing[: arguments.at_most], parallel, finished)
    unfinished = [cell.name for cell in cells if cell.commands]
    result = _write(arguments, cells, seeds)
    if unfinished:
        say(
            f"{len(unfinished)} of {len(cells)} cells are left, the next is {unfinished[0]}: repeat the command to go on"
        )
    if result is None:
        return 0
    sys.stdout.write(as_text(ablation_table(result)) + "".join(f"{sentence}\n" for sentence in sentences(result)))
    say(f"seeds {', '.join(map(str, result['seeds']))}: wrote {arguments.out / 'ablation.md'} and ablation.json")
    return 0


def _parallel(arguments: argparse.Namespace) -> int:
    if arguments.parallel is not None:
        return int(arguments.parallel)
    return 1 if accelerators() else min(MOST_CELLS, os.cpu_count() or 1)


def _write(arguments: argparse.Namespace, cells: Sequence[Cell], seeds: Sequence[int]) -> dict[str, Any] | None:
    """Write table and page over the seeds that have every row; None while there is none."""
    whole = [seed for seed in seeds if not any(cell.commands for cell in cells if cell.seed == seed)]
    if not whole:
        return None
    from msvl.evaluation.answers import read_columns  # numpy and torch: only after everything is measured

    paths = {(cell.row.name, cell.seed): cell.result for cell in cells if cell.seed in whole}
    columns = {key: read_columns(path.with_name(f"{path.stem}-samples.npz")) for key, path in paths.items()}
    contents = {key: read_json(path, made_by="msvl ablation") for key, path in paths.items()}
    result = summarise(contents, columns, resamples=arguments.resamples)
    write_json(arguments.out / "ablation.json", result)
    text = page(result, _command(arguments))
    for path in (arguments.out / "ablation.md", arguments.page):
        if path is None:
            continue
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path} could not be written ({error.strerror}): choose another place") from error
    return result


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that makes the same table."""
    words = ["msvl", "ablation", arguments.config, "--seeds", arguments.seeds]
    for name, default in (
        ("protocol", "ablation"), ("tasks", ",".join(TASKS)), ("rows", None), ("resamples", 1000), ("page", None)
    ):  # fmt: skip
        value = getattr(arguments, name)
        if value != default:
            words += [f"--{name}", str(value)]
    return shlex.join([*words, *arguments.overrides])


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


def _cell(row: Row, seed: int, arguments: argparse.Namespace, protocol: Protocol, parallel: int) -> Cell:
    """Return a cell with what is still to be done: training unless its last checkpoint is there, judgement unless by these cards."""
    name = f"{row.name.replace('+', '-')}-seed{seed}"
    folder = arguments.out / name
    cell = Cell(row, seed, folder / "evaluation" / "ablation.json", arguments.out / f"{name}.log")
    overrides = [*arguments.overrides, *row.overrides, f"train.seed={seed}", f"run.name={name}", f"run.folder={arguments.out}"]  # fmt: skip
    ranks: list[str] = []
    if parallel > 1:
        # One thread per row wastes nothing on waiting for other ranks and threads.
        ranks, overrides = ["--ranks", "1"], ["train.threads_per_rank=1", *overrides]
    config = _config(arguments.config, overrides)
    _check_same(config, folder)
    steps = config.train.steps
    last = step_folder(folder / "checkpoints", steps)
    if not (last / MARKER).is_file():
        resume = ["--resume"] if folder.exists() else []
        cell.commands.append(["train", arguments.config, *ranks, *resume, *overrides])
    if cell.commands or not _is_judged(cell.result, protocol, arguments, steps):
        words = ["evaluate", str(last), "--protocol", arguments.protocol, "--tasks", arguments.tasks]
        cell.commands.append([*words, "--name", "ablation", "--resamples", str(arguments.resamples)])
    return cell


def _is_judged(path: Path, protocol: Protocol, arguments: argparse.Namespace, steps: int) -> bool:
    """Return whether a judgement is that of the last checkpoint by these cards."""
    if not path.is_file():
        return False
    content = read_json(path, made_by="msvl ablation")
    cards = {task.strip(): protocol.card(task.strip(), content["data"]["name"]) for task in arguments.tasks.split(",")}
    found = {task: card["digest"] for task, card in content["cards"].items()}
    return (
        found == {task: card.digest for task, card in cards.items() if card is not None}
        and content["model"]["step"] == steps
        and content["config"]["resamples"] == arguments.resamples
    )


def _config(path: str, overrides: Sequence[str]) -> PretrainConfig:
    from msvl.config.load import load_config
    from msvl.training.config import PretrainConfig

    return load_config(path, list(overrides), PretrainConfig)


def _check_same(config: PretrainConfig, folder: Path) -> None:
    """Raise ConfigError where a row's folder was begun by another configuration: its figures would stand for this one."""
    begun = folder / "config.yaml"
    if not begun.is_file():
        return
    wanted, found = (
        dict(_values(item.model_dump(mode="json", by_alias=True))) for item in (config, _config(str(begun), ()))
    )
    differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    differing = [key for key in differing if not key.startswith(WITHOUT_EFFECT)]
    if differing:
        raise ConfigError(
            f"{folder} was begun with another {', '.join(differing)}: give this ablation a folder of its own with --out"
        )


def _values(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a configuration by its key, as it is typed on the command line."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _values(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value

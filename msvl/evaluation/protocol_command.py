"""`msvl evaluate --protocol` and `msvl compare`: what was typed, into requests; results, onto the terminal."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from msvl.config.errors import ConfigError, DataError
from msvl.environment import die_with_parent
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.protocol import read_protocol
from msvl.evaluation.tables import Table, as_text, number, spoken

TASKS = ("zero_shot", "retrieval", "grounding", "linear_probe", "fine_tuned", "segmentation")
"""In the order in which they run: cheap ones first."""
TIMEOUT_MINUTES = 24 * 60.0
"""A rank waits this long for the others' trainings."""
COMPARE_EXAMPLE = "Example: msvl compare runs/a runs/b --name phantom-test-clean"


def evaluate_by_protocol(arguments: argparse.Namespace) -> int:
    """Judge by a protocol, on one rank or on several."""
    tasks = _tasks(arguments.tasks)
    for option in ("prompts", "score", "sigma", "probe_samples"):
        if getattr(arguments, option) is not None:
            raise ConfigError(
                f"--{option.replace('_', '-')} belongs to the card: with --protocol name another protocol"
            )
    if arguments.ranks < 1:
        raise ConfigError(f"--ranks {arguments.ranks}: at least 1 is needed")
    protocol = read_protocol(arguments.protocol)
    from msvl.evaluation.judged_model import locate_judged

    place = locate_judged(arguments.model)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if arguments.ranks > 1 and world == 1:
        return _launch(arguments.ranks)
    from msvl.collectives.group import process_group
    from msvl.collectives.world import rank
    from msvl.evaluation.protocol_run import ProtocolRequest, evaluate_protocol

    chosen = {
        "resamples": arguments.resamples, "seed": arguments.seed, "strict": arguments.tasks is not None,
        "train_subset": arguments.train_subset,
    }  # fmt: skip
    request = ProtocolRequest(
        place=place,
        protocol=protocol,
        tasks=tasks,
        data=arguments.data,
        split=arguments.split,
        limit=arguments.limit,
        name=arguments.name,
        untrained=arguments.untrained,
        config=EvaluationConfig(**{name: value for name, value in chosen.items() if value is not None}),
    )
    with process_group(world, timeout_minutes=TIMEOUT_MINUTES):
        first = rank() == 0
        path, content = evaluate_protocol(request, say=_say if first else lambda text: None)
    if first:
        sys.stdout.write(json.dumps(content, indent=2) + "\n" if arguments.json else _text(content))
        tables = path.with_name(f"{path.stem}-tables")
        if arguments.page is not None:
            from msvl.evaluation.paper_tables import write_markdown

            write_markdown(arguments.page, content, command=shlex.join(["msvl", *sys.argv[1:]]))
        sys.stderr.write(
            f"Took {content['seconds']['protocol']:.0f} s. Wrote {path}\nNext: open {tables / 'tables.html'}"
            + (f", or type msvl report {place.run} for the run's page\n" if place.run is not None else "\n")
        )
        gallery = path.with_name(f"{path.stem}-gallery") / "index.html"
        if gallery.is_file():
            sys.stderr.write(f"The worst errors, pictures of patients: {gallery}\n")
    return 0


def _tasks(typed: str | None) -> tuple[str, ...]:
    if typed is None:
        return TASKS
    tasks = tuple(name.strip() for name in typed.split(",") if name.strip())
    unknown = [name for name in tasks if name not in TASKS]
    if unknown or not tasks:
        raise ConfigError(f"--tasks {typed}: with --protocol the tasks are {', '.join(TASKS)}")
    return tasks


def _launch(ranks: int) -> int:
    """Start the same command on several ranks of this machine and return their exit code."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", "--no-python"]
    cores = max(1, (os.cpu_count() or 1) // ranks)
    done = subprocess.run(
        [*line, sys.executable, "-m", "msvl.cli", *sys.argv[1:]],
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores))},
        preexec_fn=die_with_parent,  # noqa: PLW1509 - single-threaded here, and no orphan may stay
    )
    return done.returncode


def _say(text: str) -> None:
    sys.stderr.write(f"msvl evaluate: {text}\n")
    sys.stderr.flush()


def _text(content: dict[str, Any]) -> str:
    from msvl.evaluation.paper_tables import build_tables, card_lines

    data = content["data"]
    parts = [f"{data['name']}, split {data['split']}: {data['images']:,} images of {data['patients']:,} patients\n"]
    for title, table in build_tables(content):
        own = [row for row in table.rows if not row[-1].startswith("reported by others")]
        plain = Table(table.columns, [tuple(cell.strip("*") for cell in row) for row in own])
        parts.append(f"{title}\n{as_text(plain)}")
    left_out = [
        f"{spoken(task)}: {spoken(name)}: {reason}"
        for task, own in content["figures"].items()
        for name, reason in own.items()
        if name.startswith("left_out")
    ]
    return "\n".join([*parts, *left_out, "\n".join(card_lines(content))]) + "\n"


def add_parsers(groups: Any) -> None:
    """Add `msvl compare`."""
    parser = groups.add_parser("compare", help="two models on the same samples, paired", epilog=COMPARE_EXAMPLE)
    parser.add_argument("first", type=Path, metavar="RUN_OR_FILE", help="run, or its evaluation/NAME.json")
    parser.add_argument("second", type=Path, metavar="RUN_OR_FILE", help="the other one")
    parser.add_argument("--name", help="name of the judgement, where runs are given")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap draws over patients (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Compare; 0 whatever the answer."""
    from msvl.evaluation.compare import compare, told_apart
    from msvl.evaluation.figures import read_json

    files = [_result(path, arguments.name) for path in (arguments.first, arguments.second)]
    found = compare(*files, resamples=arguments.resamples, seed=arguments.seed)
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    rows = [
        (
            f"{spoken(task)}: {spoken(figure)}", number(item["first"]), number(item["second"]), f"{item['difference']:+.3f}",
            "-" if item["interval"] is None else f"[{item['interval'][0]:+.3f}, {item['interval'][1]:+.3f}]",
            "yes" if told_apart(item) else "no",
        )
        for task, figures in found.items()
        for figure, item in figures.items()
    ]  # fmt: skip
    columns = ("figure", "first", "second", "second - first", "95 % interval", "told apart")
    cards = read_json(files[0], made_by="msvl evaluate MODEL --protocol NAME")["cards"]
    named = ", ".join(f"{cards[task]['card']} {cards[task]['digest']}" for task in found)
    sys.stdout.write(as_text(Table(columns, rows)) + f"Cards: {named}\n")
    sys.stderr.write("Patients are drawn for both models at once; the luck of training is not in the intervals.\n")
    return 0


def _result(path: Path, name: str | None) -> Path:
    if path.suffix == ".json":
        return path
    folder = path / "evaluation"
    if name is not None:
        return folder / f"{name}.json"
    have = sorted(file.name.removesuffix("-samples.npz") for file in folder.glob("*-samples.npz"))
    if not have:
        raise DataError(f"{folder} has no judgement by a protocol: make one by msvl evaluate {path} --protocol clean")
    if len(have) > 1:
        raise DataError(f"{folder} has {', '.join(have)}: name one with --name, or give its .json")
    return folder / f"{have[0]}.json"

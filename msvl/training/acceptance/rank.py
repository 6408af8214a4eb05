"""One rank of an acceptance: `python -m msvl.training.acceptance.rank TASK --config FILE ...`. launch/acceptance writes these words."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msvl.config.errors import MsvlError
from msvl.config.load import load_config
from msvl.environment import LaunchedRank, prepare_environment, prepare_rank
from msvl.training.acceptance.trained import train
from msvl.training.config import PretrainConfig

MISTAKES = ("detached-gather", "rank-local-negatives", "unscaled")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(prog="python -m msvl.training.acceptance.rank", description="One rank.")
    parser.add_argument("task", choices=("machine", "links", "references", "exact", "train", "open-clip"))
    parser.add_argument("--config", required=True, help="resolved configuration")
    parser.add_argument("--out", type=Path, help="file that rank 0 writes its findings to")
    parser.add_argument("--megabytes", type=float, default=64.0, help="of the tensor that is sent")
    parser.add_argument("--references", type=Path, help="losses and gradients of one process")
    parser.add_argument("--world", type=int, default=1, help="ranks that the references are for")
    parser.add_argument("--stages", default="0,1,2,3", help="ZeRO stages")
    parser.add_argument("--break", dest="broken", choices=MISTAKES, help="make a mistake, to see it found")
    parser.add_argument("--resume", action="store_true", help="go on with the run")
    parser.add_argument("--memory", type=Path, help="folder for the peaks of memory")
    parser.add_argument("--die-at", type=int, help="step at which the last rank dies")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before measuring")
    parser.add_argument("--steps", type=int, default=20, help="steps to measure")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Do one task as one rank; return the exit code."""
    arguments = build_parser().parse_args(argv)
    if arguments.task == "train":
        words = ["--config", arguments.config, *(["--resume"] if arguments.resume else [])]
        return train(words, memory=arguments.memory, die_at=arguments.die_at)
    tasks: dict[str, Callable[[argparse.Namespace, PretrainConfig, LaunchedRank], Any]] = {
        "machine": _machine, "links": _links, "references": _references, "exact": _exact, "open-clip": _open_clip,
    }  # fmt: skip
    try:
        prepare_environment()
        rank = prepare_rank()
        config = load_config(arguments.config, [], PretrainConfig)
        _set_threads(config, rank)
        found = tasks[arguments.task](arguments, config, rank)
    except (MsvlError, ArithmeticError) as error:
        sys.stderr.write(f"msvl: {error}\n")
        return 2
    if arguments.out and rank.rank == 0:
        _write(arguments.out, found)
    return 0


def _set_threads(config: PretrainConfig, rank: LaunchedRank) -> None:
    import torch

    torch.set_num_threads(config.train.threads_per_rank or max(1, (os.cpu_count() or 1) // rank.local_world_size))


def _machine(arguments: argparse.Namespace, config: PretrainConfig, rank: LaunchedRank) -> dict[str, Any]:
    from msvl.training.acceptance.machine import describe_machine

    return describe_machine()


def _links(arguments: argparse.Namespace, config: PretrainConfig, rank: LaunchedRank) -> dict[str, Any]:
    """Collective."""
    from msvl.collectives.links import latency_seconds, operation_bandwidths, ring_links
    from msvl.collectives.strict import check_collectives
    from msvl.training.acceptance.machine import describe_machine
    from msvl.training.acceptance.strictness import missed_differences
    from msvl.training.engine import start_processes

    device = start_processes(config, rank.world_size).device
    check_collectives(True)
    operation_bandwidths(4096, device)  # every rank does the same, and the sums are right
    missed = missed_differences(device)
    check_collectives(False)
    nbytes = int(arguments.megabytes * 1e6)
    links = [asdict(link) for link in ring_links(nbytes, device)]
    for link in links:
        link["between_nodes"] = link["source"] // rank.local_world_size != link["target"] // rank.local_world_size
    return {
        "machine": describe_machine(),
        "megabytes": arguments.megabytes,
        "operations": operation_bandwidths(nbytes, device) if rank.world_size > 1 else {},
        "latency_microseconds": latency_seconds(device) * 1e6 if rank.world_size > 1 else None,
        "links": links,
        "missed_differences": missed,
    }


def _references(arguments: argparse.Namespace, config: PretrainConfig, rank: LaunchedRank) -> dict[str, Any]:
    import torch

    from msvl.training.acceptance.exact import measure_references, pairs_for, write_references

    device = torch.device("cuda", rank.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    pairs = pairs_for(arguments.world)
    write_references(measure_references(config, pairs, device), arguments.references)
    return {"pairs": pairs}


def _exact(arguments: argparse.Namespace, config: PretrainConfig, rank: LaunchedRank) -> dict[str, Any]:
    """Collective."""
    from msvl.collectives.strict import check_collectives, recorded
    from msvl.training.acceptance.exact import PRECISIONS, check_case, pairs_for, read_references, with_case

    references, pairs = read_references(arguments.references), pairs_for(rank.world_size)
    cases, collectives = [], 0
    for precision in PRECISIONS:
        for stage in map(int, arguments.stages.split(",")):
            check_collectives(True)
            case = check_case(with_case(config, stage, precision, pairs), pairs, references, arguments.broken)
            collectives += len(recorded())
            check_collectives(False)
            cases.append(asdict(case) | {"right": case.right})
            if rank.rank == 0:  # what was found before a hang is not lost with it
                _write(arguments.out, {"pairs": pairs, "cases": cases, "collectives": collectives})
    return {"pairs": pairs, "cases": cases, "collectives": collectives}


def _open_clip(arguments: argparse.Namespace, config: PretrainConfig, rank: LaunchedRank) -> dict[str, Any]:
    """Collective."""
    from msvl.training.acceptance.peer import measure_open_clip
    from msvl.training.prepare import prepare

    prepared = prepare(arguments.config, [], resume=False, rank=rank)
    return measure_open_clip(prepared, warm_up=arguments.warm_up, steps=arguments.steps)


def _write(path: Path, found: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())

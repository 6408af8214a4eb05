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
from msvl.config.exit_codes import ANSWER_IS_NO
from msvl.config.load import load_config
from msvl.environment import LaunchedRank, prepare_environment, prepare_rank
from msvl.training.acceptance.trained import train
from msvl.training.config import PretrainConfig

MISTAKES = ("detached-gather", "rank-local-negatives", "unscaled")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(prog="python -m msvl.training.acceptance.rank", description="One rank.")
    parser.add_argument("task", choices=("links", "exact", "train", "open-clip"))
    parser.add_argument("--config", required=True, help="resolved configuration")
    parser.add_argument("--out", type=Path, help="file that rank 0 writes its findings to")
    parser.add_argument("--megabytes", type=float, default=64.0, help="of the tensor that is sent")
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
        "links": _links, "exact": _exact, "open-clip": _open_clip,
    }  # fmt: skip
    try:
        prepare_environment()
        rank = prepare_rank()
        config = load_config(arguments.config, [], PretrainConfig)
        _set_threads(config, rank)
        found = tasks[arguments.task](arguments, config, rank)
    except MsvlError as error:
        sys.stderr.write(f"msvl: {error}\n")
        return error.exit_code
    except ArithmeticError as error:
        sys.stderr.write(f"msvl: {error}\n")
        return ANSWER_IS_NO
    if arguments.out and rank.rank == 0:
        _write(arguments.out, found)
    from msvl.collectives.group import leave_together

    leave_together()
    return 0


def _set_threads(config: PretrainConfig, rank: LaunchedRank) -> None:
    import torch

    torch.set_num_threads(config.train.threads_per_rank or max(1, (os.cpu_count() or 1) // rank.local_world_size))


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


def _exact(arguments: argparse.Namespace, config: PretrainConfig, rank: LaunchedRank) -> dict[str, Any]:
    """Collective. Rank 0 measures the references before the ranks meet, and compares each case with them."""
    import torch

    from msvl.collectives.strict import check_collectives, checked
    from msvl.training.acceptance.exact import (
        PRECISIONS,
        judge_case,
        measure_case,
        measure_references,
        with_case,
    )
    from msvl.training.gradcheck.sizes import pairs_for

    device = torch.device("cuda", rank.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    pairs, cases, collectives = pairs_for(rank.world_size), [], 0
    references = measure_references(config, pairs, device) if rank.rank == 0 else {}
    for precision in PRECISIONS:
        for stage in map(int, arguments.stages.split(",")):
            case_config = with_case(config, stage, precision, pairs)
            check_collectives(True)
            many = measure_case(case_config, pairs, rank.world_size, arguments.broken)
            collectives += checked()
            check_collectives(False)
            if rank.rank == 0:  # written after each case: what was found before a hang is not lost with it
                case = judge_case(case_config, many, rank.world_size, references)
                cases.append(asdict(case) | {"right": case.right})
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

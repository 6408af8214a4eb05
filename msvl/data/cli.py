"""`msvl data`: sources, pack, inspect, verify."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.sources import SOURCES


def add_parsers(groups: Any) -> None:
    """Add `msvl data` and its commands."""
    data = groups.add_parser("data", help="source data sets to shards, and checks", description="Work on data sets.",
        epilog="Example: msvl data pack phantom --out shards/phantom --train-tokenizer 1200",
    )  # fmt: skip
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    sources = commands.add_parser(
        "sources", help="list the data sets that can be packed", epilog="Example: msvl data sources"
    )
    sources.set_defaults(run=_sources)
    _add_pack(commands)
    for name, run, help_text in (
        ("inspect", _inspect, "counts, report lengths, duplicates and a contact sheet of a packed set"),
        ("verify", _verify, "find and name every damaged shard and record"),
    ):
        command = commands.add_parser(name, help=help_text, epilog=f"Example: msvl data {name} shards/phantom")
        command.add_argument("path", type=Path, help="packed set")
        command.add_argument("--json", action="store_true", help="print JSON")
        command.set_defaults(run=run)


def _add_pack(commands: Any) -> None:
    pack = commands.add_parser(
        "pack",
        help="turn a source data set into shards",
        description="Pack a source into WebDataset tar shards with index, manifest and patient-level splits.",
        epilog="Example: msvl data pack phantom --out shards/phantom --train-tokenizer 1200",
    )
    kinds = pack.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, path in SOURCES.items():
        module = importlib.import_module(path)
        parser = kinds.add_parser(name, help=_first_line(module.__doc__), epilog=f"Example: {module.EXAMPLE}")
        module.add_arguments(parser)
        parser.add_argument("--out", type=Path, required=True, help="folder to make")
        parser.add_argument(
            "--short-side", type=int, default=getattr(module, "SHORT_SIDE", 512), help="pixels (default: %(default)s)"
        )
        parser.add_argument(
            "--shard-samples", type=int, default=getattr(module, "SHARD_SAMPLES", 5000), help="default: %(default)s"
        )
        parser.add_argument("--val-share", type=float, default=0.1, help="patients in val (default: %(default)s)")
        parser.add_argument("--test-share", type=float, default=0.1, help="patients in test (default: %(default)s)")
        parser.add_argument(
            "--max-dropped", type=float, default=0.5, help="share of unusable records (default: %(default)s)"
        )
        parser.add_argument("--id-key", default="", help="secret of the hashes that replace source ids")
        parser.add_argument(
            "--train-tokenizer", type=int, default=0, metavar="VOCABULARY", help="train one on the reports"
        )
        parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        parser.set_defaults(run=_pack)


def _pack(arguments: argparse.Namespace) -> int:
    from msvl.data.pack import PackOptions, pack

    if arguments.workers < 1:
        raise DataError(f"--workers {arguments.workers}: at least 1 process is needed")

    source = importlib.import_module(SOURCES[arguments.source]).from_arguments(arguments)
    options = PackOptions(
        short_side=arguments.short_side,
        shard_samples=arguments.shard_samples,
        val_share=arguments.val_share,
        test_share=arguments.test_share,
        id_key=arguments.id_key,
        max_dropped_share=arguments.max_dropped,
        tokenizer_vocabulary=arguments.train_tokenizer,
    )
    manifest = pack(source, arguments.out, options, workers=arguments.workers)
    counts = ", ".join(
        f"{split} {part['samples']:,} of {part['patients']:,} patients" for split, part in manifest["counts"].items()
    )
    dropped = sum(manifest["dropped"].values())
    sys.stdout.write(f"{arguments.out}: {counts}\n")
    if dropped:
        sys.stdout.write(f"dropped {dropped:,}: see {arguments.out / 'dropped.csv'}\n")
    return 0


def _sources(arguments: argparse.Namespace) -> int:
    for name, path in SOURCES.items():
        sys.stdout.write(f"{name:12s} {_first_line(importlib.import_module(path).__doc__)}\n")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from msvl.data.inspect_set import describe, render

    description = describe(arguments.path)
    sys.stdout.write(json.dumps(description, indent=1) + "\n" if arguments.json else render(description))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from msvl.data.verify import verify

    faults = verify(arguments.path)
    if arguments.json:
        sys.stdout.write(json.dumps([fault.__dict__ for fault in faults], indent=1) + "\n")
    else:
        for fault in faults:
            sys.stdout.write(f"{fault.shard}: {fault.key or 'the shard'}: {fault.reason}\n")
        sys.stdout.write(f"{len(faults):,} faults\n" if faults else f"{arguments.path} is sound\n")
    return 1 if faults else 0


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]

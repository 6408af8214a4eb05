"""`msvl data`: what works on data sets; packing has a file of its own."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from msvl.data.index_cli import add_index
from msvl.data.leaks_cli import add_leaks
from msvl.data.ledger_cli import add_forget, add_ledger
from msvl.data.miniature_cli import add_miniature
from msvl.data.pack_cli import add_merge, add_pack, check_workers, first_line
from msvl.data.sources import SOURCES
from msvl.data.subset_cli import add_subset
from msvl.data.tokenise_cli import add_tokenise


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
    add_pack(commands)
    add_merge(commands)
    add_index(commands)
    add_tokenise(commands)
    add_leaks(commands)
    add_ledger(commands)
    add_forget(commands)
    add_subset(commands)
    add_miniature(commands)
    for name, run, help_text in (
        ("inspect", _inspect, "counts, report lengths, image sizes, duplicates and a contact sheet"),
        ("verify", _verify, "find and name every damaged shard and record"),
    ):
        command = commands.add_parser(name, help=help_text, epilog=f"Example: msvl data {name} shards/phantom")
        command.add_argument("path", help="packed set: a folder or URL")
        command.add_argument("--json", action="store_true", help="print JSON")
        command.set_defaults(run=run)
        if name == "verify":
            command.add_argument(
                "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
            )
        if name == "inspect":
            command.add_argument(
                "--out", type=Path, metavar="DIR", help="folder for the pictures (default: the set's own)"
            )
            command.add_argument(
                "--samples", type=int, default=20_000, help="samples read per split (default: %(default)s)"
            )


def _sources(arguments: argparse.Namespace) -> int:
    for name, path in SOURCES.items():
        sys.stdout.write(f"{name:16s} {first_line(importlib.import_module(path).__doc__)}\n")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from msvl.data.inspect_set import describe, render

    description = describe(arguments.path, arguments.out, samples=arguments.samples)
    sys.stdout.write(json.dumps(description, indent=1) + "\n" if arguments.json else render(description))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from msvl.data.verify import verify

    check_workers(arguments.workers)
    faults = verify(arguments.path, workers=arguments.workers)
    if arguments.json:
        sys.stdout.write(json.dumps([fault.__dict__ for fault in faults], indent=1) + "\n")
    else:
        for fault in faults:
            sys.stdout.write(f"{fault.shard}: {fault.key or 'the shard'}: {fault.reason}\n")
        sys.stdout.write(f"{len(faults):,} faults\n" if faults else f"{arguments.path} is sound\n")
    return 1 if faults else 0

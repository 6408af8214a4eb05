"""`msvl data ledger` and `msvl data forget`."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError


def add_ledger(commands: Any) -> None:
    """Add `msvl data ledger`."""
    parser = commands.add_parser(
        "ledger",
        help="which samples a step or a checkpoint of a run has read",
        description="Recompute what a run has read, from its folder: the plan, and the fills as they happened.",
        epilog="Example: msvl data ledger runs/quickstart --step 100",
    )
    parser.add_argument("run_folder", nargs="?", type=Path, metavar="RUN", help="run folder")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--step", type=int, metavar="N", help="the global batch of step N (from 1, as in metrics.jsonl)")
    what.add_argument("--checkpoint", type=Path, metavar="PATH", help="how often a checkpoint has seen each sample")
    what.add_argument("--key", metavar="KEY", help="in which steps a sample, a study or a patient was read")
    parser.add_argument("--out", type=Path, metavar="CSV", help="with --checkpoint: write every sample and its count")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_ledger)


def add_forget(commands: Any) -> None:
    """Add `msvl data forget`."""
    parser = commands.add_parser(
        "forget",
        help="take samples out of a packed set, and name the checkpoints that saw them",
        description="Exclude samples from a packed set: the stream never reads them again, the manifest gets another hash.",
        epilog="Example: msvl data forget shards/mine 1f0c3a9d52e84b76 --runs runs",
    )
    parser.add_argument("path", help="packed set on a local disk")
    parser.add_argument("names", nargs="*", metavar="KEY", help="hash of a sample, a study or a patient")
    parser.add_argument("--file", type=Path, metavar="F", help="a file with one KEY per line")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="run folders (default: runs)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_forget)


def _ledger(arguments: argparse.Namespace) -> int:
    from msvl.data.ledger import Ledger, run_of

    if arguments.out and not arguments.checkpoint:
        raise DataError("--out belongs to --checkpoint: add --checkpoint PATH")
    if arguments.checkpoint:
        run, steps = run_of(arguments.checkpoint)
        _tell_checkpoint(Ledger(run), steps, arguments)
        return 0
    if arguments.run_folder is None:
        raise DataError("name the run folder: msvl data ledger RUN --step N")
    ledger = Ledger(arguments.run_folder)
    if arguments.key:
        _tell_key(ledger, arguments)
        return 0
    entries = ledger.batch(arguments.step)
    if arguments.json:
        _print({"step": arguments.step, "places": [asdict(entry) for entry in entries]})
        return 0
    for entry in entries:
        note = f"  substitute {entry.filled}" if entry.filled else ""
        sys.stdout.write(f"{entry.place:6d}  {entry.key}  {entry.source}{note}\n")
    return 0


def _tell_checkpoint(ledger: Any, steps: int, arguments: argparse.Namespace) -> None:
    counts = ledger.times_read(steps)
    places = steps * ledger.global_batch
    sources = [
        {
            "source": path,
            "samples": len(count),
            "seen": int((count > 0).sum()),
            "reads": int(count.sum()),
            "most_reads": int(count.max(initial=0)),
        }
        for path, count in zip(ledger.paths, counts, strict=True)
    ]
    filled = sum(position < places for position in ledger.fills)
    if arguments.json:
        _print({"steps": steps, "places": places, "filled": filled, "sources": sources})
    else:
        sys.stdout.write(f"{steps:,} steps, {places:,} places, {filled:,} of them filled by substitutes\n")
        for item in sources:
            sys.stdout.write(
                f"{item['source']}: {item['seen']:,} of {item['samples']:,} samples seen, each up to {item['most_reads']} "
                "times\n"
            )
    if arguments.out:
        try:
            with open(arguments.out, "w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                writer.writerow(["source", "key", "times"])
                for path, index, count in zip(ledger.paths, ledger.indexes, counts, strict=True):
                    writer.writerows((path, index.key(row), times) for row, times in enumerate(count.tolist()) if times)
        except OSError as error:
            raise DataError(f"{arguments.out} cannot be written ({error.strerror}): choose another --out") from error


def _tell_key(ledger: Any, arguments: argparse.Namespace) -> None:
    from msvl.data.ledger import newest_step, rows_of

    rows = [rows_of(index, [arguments.key]) for index in ledger.indexes]
    if not any(map(len, rows)):
        raise DataError(f"no source of {arguments.run_folder} has a sample, study or patient {arguments.key}")
    last = newest_step(arguments.run_folder)
    steps = ledger.steps_of(rows, last).tolist()
    if arguments.json:
        _print({"key": arguments.key, "samples": sum(map(len, rows)), "steps": steps, "up_to_step": last})
    else:
        told = ", ".join(map(str, steps)) or "none"
        sys.stdout.write(
            f"{arguments.key} was read in {len(steps):,} of the {last:,} steps of the newest checkpoint: {told}\n"
        )


def _forget(arguments: argparse.Namespace) -> int:
    from msvl.data.forget import forget

    names = list(arguments.names)
    if arguments.file:
        try:
            names += arguments.file.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{arguments.file} cannot be read ({error}): name a text file with one key per line"
            ) from error
    if not names:
        raise DataError("name the samples: msvl data forget SET KEY..., or --file F with one key per line")
    runs = sorted(path for path in arguments.runs.glob("*") if path.is_dir()) if arguments.runs.is_dir() else []
    done = forget(arguments.path, names, runs)
    if arguments.json:
        _print(
            {
                "forgotten": done.keys,
                "manifest": done.fingerprint,
                "checkpoints": [{"path": str(folder), "steps": steps} for folder, steps in done.checkpoints],
                "unknown": done.unread,
            }
        )
        return 0
    sys.stdout.write(
        f"{len(done.keys):,} samples were taken out of {arguments.path}; its manifest is now {done.fingerprint}\n"
    )
    for folder, steps in done.checkpoints:
        sys.stdout.write(f"{folder} saw them, in {steps:,} of its steps\n")
    if not done.checkpoints:
        sys.stdout.write(f"no checkpoint under {arguments.runs} saw them\n")
    for reason in done.unread:
        sys.stdout.write(f"cannot be told: {reason}\n")
    return 0


def _print(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")

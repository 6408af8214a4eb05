"""`msvl data subset`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError


def add_subset(commands: Any) -> None:
    """Add `msvl data subset`."""
    parser = commands.add_parser(
        "subset",
        help="choose a part of a split: a seeded share of its patients, or the samples of a list",
        description="Write the keys of a part of a split: a seeded share of its patients, stratified by their findings (a "
        "smaller share is part of a larger one of the same seed), or the samples that a list names.",
        epilog="Example: msvl data subset shards/mine --ratio 0.01 --seed 0 --out subsets/mine-1.txt",
    )
    parser.add_argument("path", help="packed set: a folder or URL")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--ratio", type=float, help="share of the patients, above 0 and at most 1")
    what.add_argument("--names", type=Path, metavar="FILE", help="list of keys, studies or patients, one a line")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    parser.add_argument("--split", default="train", help="which split (default: %(default)s)")
    parser.add_argument(
        "--key-table", type=Path, metavar="PATH", help="with --names: the list has the source's own ids"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="list of keys to write")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_subset)


def _subset(arguments: argparse.Namespace) -> int:
    from msvl.data.packed import PackedSet
    from msvl.data.subset import draw_subset, named_subset, write_subset

    if arguments.key_table and not arguments.names:
        raise DataError("--key-table belongs to --names: add --names FILE, or leave it out")
    packed = PackedSet.open(arguments.path)
    index = packed.split(arguments.split)
    if arguments.names:
        subset, how = named_subset(index, arguments.names, arguments.key_table), f"names of {arguments.names.name}"
    else:
        subset, how = (
            draw_subset(index, arguments.ratio, arguments.seed),
            f"ratio {arguments.ratio:g}, seed {arguments.seed}",
        )
    about = f"{packed.name}, split {arguments.split}, {how}, set {packed.fingerprint[:16]}"
    write_subset(arguments.out, subset, about)
    counts = {"samples": len(subset.keys), "of": len(index), "patients": subset.patients,
              "of_patients": packed.counts(arguments.split)["patients"], "out": str(arguments.out)}  # fmt: skip
    if arguments.json:
        sys.stdout.write(json.dumps(counts) + "\n")
        return 0
    sys.stdout.write(
        f"{arguments.out}: {counts['samples']:,} of {counts['of']:,} samples, {counts['patients']:,} of "
        f"{counts['of_patients']:,} patients\n"
    )
    return 0

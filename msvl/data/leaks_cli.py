"""`msvl data leaks`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msvl.config.errors import DataError
from msvl.data.pack_cli import check_workers

if TYPE_CHECKING:
    from msvl.data.leaks.group import Argument

ROLES = ("image", "patient", "study", "split", "text")


def add_leaks(commands: Any) -> None:
    """Add `msvl data leaks`."""
    parser = commands.add_parser(
        "leaks",
        help="patients, images and texts that sets, splits or published lists have in common",
        description="Compare packed sets, or lists of images (.csv, .tsv, .txt, .json, .jsonl), as a whole and train against "
        "val and test. Exit code 1 when a patient or an image is shared.",
        epilog="Example: msvl data leaks train.csv val.csv test.csv",
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="SET_OR_LIST", help="packed set (folder or URL) or list of images")
    add(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="which image of RSNA or SIIM is which of NIH ChestX-ray14 (CSV, JSON)",
    )
    for role in ROLES:
        add(f"--{role}-column", metavar="NAME", help=f"column of a list with the {role} (default: known names)")
    add("--within", type=int, metavar="BITS", help="of 512 bits that may differ between near-duplicates (default: 102)")
    add("--out", type=Path, metavar="CSV", help="write the samples that leak, for your eyes only")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes that read images (default: all cores)")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_leaks)


def _leaks(arguments: argparse.Namespace) -> int:
    from msvl.data.leaks.compare import compare_all
    from msvl.data.leaks.fingerprint import BITS, WITHIN
    from msvl.data.leaks.tell import as_json, as_text, write_samples

    check_workers(arguments.workers)
    within = WITHIN if arguments.within is None else arguments.within
    if not 0 <= within < BITS // 2:
        raise DataError(f"--within {within}: give 0 to {BITS // 2 - 1} of the {BITS} bits")
    compared = _read(arguments)
    overlaps = compare_all(compared, within=within, progress=True)
    if arguments.out:
        count = write_samples(arguments.out, overlaps, compared)
        sys.stderr.write(f"{count:,} samples that leak: {arguments.out}\n")
    told = as_json(overlaps, compared) if arguments.json else as_text(overlaps, compared)
    sys.stdout.write(told if isinstance(told, str) else json.dumps(told, indent=1) + "\n")
    return 1 if any(item.leaks for item in overlaps) else 0


def _read(arguments: argparse.Namespace) -> Sequence[Argument]:
    from msvl.data.leaks.list_file import Columns, is_list, read_list
    from msvl.data.leaks.list_names import Naming, list_argument
    from msvl.data.leaks.mapping import read_mapping
    from msvl.data.leaks.set_names import set_argument
    from msvl.data.packed import PackedSet

    columns = Columns(**{role: getattr(arguments, f"{role}_column") for role in ROLES})
    lists = {path: read_list(Path(path), columns) for path in arguments.paths if is_list(path)}
    mapping = read_mapping(arguments.mapping) if arguments.mapping else {}
    naming = Naming.of(list(lists.values()), mapping, patient_column_first=columns.patient is not None)
    return [
        list_argument(lists[path], naming)
        if path in lists
        else set_argument(PackedSet.open(path, max_bad_share=1.0), workers=arguments.workers)
        for path in arguments.paths
    ]

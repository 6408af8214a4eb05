"""`msvl export`: encoders that plain transformers loads."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from msvl.evaluation.locate import locate_model

EXAMPLE = "Example: msvl export runs/mine exported/mine"


def add_parsers(groups: Any) -> None:
    """Add `msvl export`."""
    parser = groups.add_parser("export", help="write encoders that plain transformers loads", epilog=EXAMPLE)
    parser.add_argument(
        "model", type=Path, metavar="CHECKPOINT_OR_RUN", help="run, checkpoint or exported model folder"
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new folder to write")
    parser.add_argument("--only", choices=("image", "text"), help="one encoder alone")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Write, compare, and say the largest difference."""
    place = locate_model(arguments.model)
    from msvl.models.exported import load_exported
    from msvl.models.plain_export import PARTS, TOLERANCE, export_plain

    parts = (arguments.only,) if arguments.only else PARTS
    found = export_plain(load_exported(place.model), place.model, arguments.folder, parts)
    if arguments.json:
        sys.stdout.write(json.dumps({"folder": str(arguments.folder), "difference": found}, indent=2) + "\n")
        return 0
    for part, value in found.items():
        sys.stdout.write(
            f"{part}: loaded again by transformers, largest difference {value:.1e} (at most {TOLERANCE:g})\n"
        )
    sys.stderr.write(f"Wrote {arguments.folder}. Next: see {arguments.folder / 'README.md'}\n")
    return 0

"""`msvl data miniature`."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.phantom.miniatures import MINIATURES


def add_miniature(commands: Any) -> None:
    """Add `msvl data miniature`."""
    parser = commands.add_parser(
        "miniature",
        help="write a small made-up data set in the layout of an official one",
        description="Write phantom patients in the folders, tables and file formats of an official data set, its known "
        "oddities included: to try an importer, a cluster or a script before the real one has arrived.",
        epilog="Example: msvl data miniature mimic-cxr-jpg miniatures/mimic",
    )
    parser.add_argument("name", choices=MINIATURES, help="which data set")
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument("--train", type=int, default=16, help="training patients (default: %(default)s)")
    parser.add_argument("--val", type=int, default=4, help="validation patients (default: %(default)s)")
    parser.add_argument("--test", type=int, default=4, help="test patients (default: %(default)s)")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other patients (default: %(default)s)")
    parser.set_defaults(run=_miniature)


def _miniature(arguments: argparse.Namespace) -> int:
    from msvl.data.phantom.miniatures.material import draw_studies

    folder = arguments.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists: remove it or name another folder")
    studies = draw_studies(
        train=arguments.train, val=arguments.val, test=arguments.test, seed=arguments.seed, size=arguments.size
    )
    module = importlib.import_module(MINIATURES[arguments.name])
    module.write(folder, studies)
    words = shlex.join(["msvl", "data", "pack", *module.pack_words(folder), "--out", f"shards/{arguments.name}"])
    sys.stdout.write(f"{folder}: {len(studies):,} studies as {arguments.name}\npack it: {words}\n")
    return 0

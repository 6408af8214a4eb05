"""`msvl data index`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from msvl.config.errors import DataError
from msvl.data.pack_cli import check_workers

logger = logging.getLogger(__name__)


def add_index(commands: Any) -> None:
    """Add `msvl data index`."""
    index = commands.add_parser(
        "index",
        help="make existing WebDataset tars usable in place",
        description="Read WebDataset tars (image + caption) once and write a manifest and an index that point at them.",
        epilog="Example: msvl data index tars/*.tar --out shards/mine --caption json:report",
    )
    add = index.add_argument
    add("tars", nargs="+", metavar="TAR", help="path or URL of a tar")
    add("--out", type=Path, required=True, help="folder to make for manifest and index")
    add("--caption", default="txt", help="txt, or json:FIELD (default: txt)")
    add(
        "--patient-field",
        metavar="FIELD",
        help="JSON field with the patient (default: the study's field, else every sample its own)",
    )
    add("--study-field", metavar="FIELD", help="JSON field with the study (default: every sample its own)")
    add("--split", choices=("train", "val", "test"), help="of all samples (default: drawn by patient)")
    add("--val-share", type=float, default=0.1, help="patients in val (default: %(default)s)")
    add("--test-share", type=float, default=0.1, help="patients in test (default: %(default)s)")
    add("--name", default="tars", help="name of the data set (default: %(default)s)")
    add("--licence", default="not stated", help="its licence, for manifest and model card")
    add("--train-tokenizer", type=int, default=0, metavar="VOCABULARY", help="train one on the captions")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    add("--debug", action="store_true", help="show the traceback of an error")
    index.set_defaults(run=_index)


def _index(arguments: argparse.Namespace) -> int:
    from msvl.data.index_tars import IndexOptions, index_tars
    from msvl.data.tar_listing import Fields

    caption = arguments.caption
    if caption != "txt" and not (caption.startswith("json:") and len(caption) > len("json:")):
        raise DataError(f"--caption {caption}: give txt or json:FIELD")
    check_workers(arguments.workers)
    if not arguments.patient_field and not arguments.split:
        logger.warning(
            "without --patient-field every sample (with --study-field every study) is taken for a patient of its own: images of one "
            "patient can fall into several splits, and figures would then be too good; --split puts all into one"
        )
    options = IndexOptions(
        fields=Fields(caption, arguments.patient_field, arguments.study_field),
        split=arguments.split,
        val_share=arguments.val_share,
        test_share=arguments.test_share,
        name=arguments.name,
        licence=arguments.licence,
        tokenizer_vocabulary=arguments.train_tokenizer,
    )
    manifest = index_tars(arguments.tars, arguments.out, options, workers=arguments.workers)
    counts = ", ".join(f"{split} {part['samples']:,}" for split, part in manifest["counts"].items())
    sys.stdout.write(f"{arguments.out}: {counts}\n")
    dropped = sum(manifest["dropped"].values())
    if dropped:
        sys.stdout.write(f"left out {dropped:,}: see {arguments.out / 'dropped.csv'}\n")
    return 0

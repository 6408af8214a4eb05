"""`msvl data tokenise`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from pydantic import ValidationError

from msvl.config.errors import DataError
from msvl.data.config import ReportConfig
from msvl.data.pack_cli import check_workers


def add_tokenise(commands: Any) -> None:
    """Add `msvl data tokenise`."""
    report = ReportConfig()
    tokenise = commands.add_parser(
        "tokenise",
        help="store the token ids of a set's reports, once per tokenizer",
        description="Make the ids that training reads instead of tokenising. A run makes those of local sets by itself; give "
        "the options of its section data.report.",
        epilog="Example: msvl data tokenise s3://bucket/shards/mimic --tokenizer bert-base-uncased --min-words 3",
    )
    add = tokenise.add_argument
    add("path", help="packed set: a folder or URL")
    add("--tokenizer", metavar="FOLDER", help="folder or hub name (default: the one trained at packing)")
    add("--split", default="train", help="default: %(default)s")
    add("--sections", default=",".join(report.sections), help="default: %(default)s")
    add("--min-words", type=int, default=report.min_words, help="shorter sentences are dropped (default: %(default)s)")
    add("--unit", choices=("sentence", "word"), default=report.unit, help="default: %(default)s")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    add("--json", action="store_true", help="print JSON")
    add("--debug", action="store_true", help="show the traceback of an error")
    tokenise.set_defaults(run=_tokenise)


def _tokenise(arguments: argparse.Namespace) -> int:
    from msvl.data.make_tokens import TextSource, find_tokens, stored_tokens
    from msvl.data.packed import PackedSet
    from msvl.data.tokenise import ReportTokeniser

    check_workers(arguments.workers)
    try:
        report = ReportConfig(
            sections=tuple(arguments.sections.split(",")), min_words=arguments.min_words, unit=arguments.unit
        )
    except ValidationError as error:
        raise DataError(f"--min-words {arguments.min_words}: give a whole number from 1 on") from error
    packed = PackedSet.open(arguments.path)
    tokenizer = arguments.tokenizer or packed.tokenizer_path
    if tokenizer is None:
        raise DataError(f"{packed.location} has no tokenizer: name one with --tokenizer")
    source = TextSource.of(packed, arguments.split, ReportTokeniser(str(tokenizer), report), report)
    known = find_tokens(source)
    store = known or stored_tokens(source, workers=arguments.workers)
    if arguments.json:
        sys.stdout.write(json.dumps({"folder": str(store.folder), "made": known is None}) + "\n")
        return 0
    what = "are there already" if known else f"of {len(source.index):,} reports"
    sys.stdout.write(f"{store.folder}: token ids {what}\n")
    return 0

"""`msvl data pack` and `msvl data merge`."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msvl.config.errors import DataError
from msvl.config.private import private_folder
from msvl.data.sources import SOURCES

if TYPE_CHECKING:
    from msvl.data.pack_options import PackOptions
    from msvl.data.study import Source

NOT_THE_SOURCE = {"command", "data_command", "run", "debug", "out", "workers", "max_dropped", "part", "estimate", "json",
                  "key_table", "staging"}  # fmt: skip
"""Arguments that an unfinished packing may be continued without."""


def add_pack(commands: Any) -> None:
    """Add `msvl data pack SOURCE`."""
    pack = commands.add_parser(
        "pack",
        help="turn a source data set into shards",
        description="Pack a source into WebDataset tar shards with index, manifest and patient-level splits. Repeat the "
        "command to go on after an interruption.",
        epilog="Example: msvl data pack phantom --out shards/phantom --train-tokenizer 1200",
    )
    kinds = pack.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, path in SOURCES.items():
        module = importlib.import_module(path)
        parser = kinds.add_parser(name, help=first_line(module.__doc__), epilog=f"Example: {module.EXAMPLE}")
        module.add_arguments(parser)
        _add_options(parser, getattr(module, "SHORT_SIDE", 512), getattr(module, "SHARD_SAMPLES", 5000))
        parser.set_defaults(run=_pack)


def add_merge(commands: Any) -> None:
    """Add `msvl data merge`."""
    merge = commands.add_parser(
        "merge",
        help="join the parts of a packing",
        description="Join parts made with --part into the set that packing in one go gives, byte for byte.",
        epilog="Example: msvl data merge shards/mine shards/mine-1 shards/mine-2",
    )
    merge.add_argument("out", type=Path, help="folder to make")
    merge.add_argument("parts", type=Path, nargs="+", help="folder of every part")
    merge.add_argument(
        "--max-dropped", type=float, default=0.5, help="share of unusable records (default: %(default)s)"
    )
    merge.add_argument("--debug", action="store_true", help="show the traceback of an error")
    merge.set_defaults(run=_merge)


def _add_options(parser: argparse.ArgumentParser, short_side: int, shard_samples: int) -> None:
    add = parser.add_argument
    add("--out", required=True, help="folder to make, or a URL (s3://, gs://) to write to")
    add("--short-side", type=int, default=short_side, help="pixels of the stored image (default: %(default)s)")
    add("--format", choices=("jpg", "png"), help="of the stored image (default: jpg, and png with --depth 16)")
    add("--quality", type=int, default=90, help="of JPEGs, 1 to 100 (default: %(default)s)")
    add(
        "--depth",
        type=int,
        choices=(8, 16),
        default=8,
        help="bits of a grey value; 16 keeps 16-bit images (default: 8)",
    )
    add("--shard-samples", type=int, default=shard_samples, help="samples per shard (default: %(default)s)")
    add("--shard-gb", type=float, default=1.0, help="size of a shard at most in 10^9 bytes (default: %(default)s)")
    add("--val-share", type=float, default=0.1, help="patients in val (default: %(default)s)")
    add("--test-share", type=float, default=0.1, help="patients in test (default: %(default)s)")
    add("--max-dropped", type=float, default=0.5, help="share of unusable records (default: %(default)s)")
    add(
        "--split-list",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="published list of the images of train, val or test, or of a part of train such as train_1; may be repeated",
    )
    add(
        "--as-published", action="store_true", help="with --split-list: keep images and patients that are in two splits"
    )
    add("--id-key", default="", help="secret of the hashes that replace source ids")
    add("--key-table", type=Path, metavar="PATH", help="write which key is which source id, for your eyes only")
    add(
        "--reports-from-labels",
        action="store_true",
        help="of a source without reports: write short sentences from its labels, to train on",
    )
    add("--train-tokenizer", type=int, default=0, metavar="VOCABULARY", help="train one on the reports")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    add("--estimate", action="store_true", help="say time, bytes and shards from a sample, and write nothing")
    add("--json", action="store_true", help="with --estimate: print JSON")
    add("--part", metavar="I/N", help="pack part I of N into --out; `msvl data merge` joins them")
    add(
        "--staging",
        type=Path,
        metavar="DIR",
        help="where a set for a URL is packed first (default: ~/.cache/msvl/staging)",
    )
    add("--debug", action="store_true", help="show the traceback of an error")


def _pack(arguments: argparse.Namespace) -> int:
    from msvl.data.key_table import check_place, write_key_table
    from msvl.data.pack_options import PackOptions
    from msvl.data.pack_plan import plan

    check_workers(arguments.workers)
    source = _source(arguments)
    options = PackOptions(
        short_side=arguments.short_side,
        image_format=arguments.format or ("png" if arguments.depth == 16 else "jpg"),
        quality=arguments.quality,
        depth=arguments.depth,
        shard_samples=arguments.shard_samples,
        shard_gb=arguments.shard_gb,
        val_share=arguments.val_share,
        test_share=arguments.test_share,
        id_key=arguments.id_key,
        max_dropped_share=arguments.max_dropped,
        reports_from_labels=arguments.reports_from_labels,
        as_published=arguments.as_published,
        tokenizer_vocabulary=arguments.train_tokenizer,
    )
    if arguments.estimate:
        return _estimate(arguments, source, options)
    if arguments.key_table:
        check_place(arguments.key_table, Path(arguments.out))
        write_key_table(arguments.key_table, plan(source, options))
    elif not source.shareable:
        sys.stderr.write("which key is which source id is not kept; --key-table PATH, beside the source, writes it\n")
    try:
        return _write(arguments, source, options)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; finished shards are kept, and the same command goes on from there\n")
        return 130


def _source(arguments: argparse.Namespace) -> Source:
    from msvl.data.split_lists import ListedSource, read_split_lists

    source: Source = importlib.import_module(SOURCES[arguments.source]).from_arguments(arguments)
    if arguments.split_list:
        return ListedSource(source, read_split_lists(arguments.split_list), as_published=arguments.as_published)
    if arguments.as_published:
        raise DataError("--as-published belongs to --split-list: name the lists, or leave it out")
    return source


def _write(arguments: argparse.Namespace, source: Source, options: PackOptions) -> int:
    from msvl.data.merge import Part, pack_part
    from msvl.data.pack import pack, source_settings
    from msvl.data.publish import publish, published, staging_folder
    from msvl.data.storage import open_location

    command, workers = _command(arguments), arguments.workers
    location = open_location(arguments.out)
    if arguments.part:
        part = Part.parse(arguments.part)
        units = pack_part(source, location.local_path, options, part, workers=workers, command=command)
        samples, dropped = sum(len(unit.records) for unit in units), sum(len(unit.dropped) for unit in units)
        sys.stdout.write(f"{location}: part {part.number} of {part.of}, {samples:,} samples, {dropped:,} dropped\n")
        return 0
    if location.is_local:
        _say(str(location), pack(source, location.local_path, options, workers=workers, command=command))
        return 0
    recorded = {"source": source_settings(source), "options": options.recorded()}
    manifest = published(arguments.out, recorded)
    if manifest is None:
        folder = staging_folder(arguments.out, arguments.staging)
        private_folder(folder.parent)
        manifest = pack(source, folder, options, workers=workers, command=command)
        publish(folder, arguments.out)
    _say(str(location), manifest)
    return 0


def _estimate(arguments: argparse.Namespace, source: Source, options: PackOptions) -> int:
    from msvl.data.estimate import estimate
    from msvl.data.pack_plan import plan

    found = estimate(source, plan(source, options), options, workers=arguments.workers)
    sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n" if arguments.json else found.render())
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from msvl.data.merge import merge

    _say(str(arguments.out), merge(arguments.out, arguments.parts, max_dropped_share=arguments.max_dropped))
    return 0


def _command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what names the source and its reading, paths in full."""
    kept = {name: value for name, value in vars(arguments).items() if name not in NOT_THE_SOURCE}
    secret = hashlib.sha256(kept.pop("id_key").encode()).hexdigest()[:16]
    return {name: str(v.resolve()) if isinstance(v, Path) else v for name, v in kept.items()} | {"id_key": secret}


def _say(place: str, manifest: dict[str, Any]) -> None:
    counts = [
        f"{split} {part['samples']:,} of {part['patients']:,} patients" for split, part in manifest["counts"].items()
    ]
    sys.stdout.write(f"{place}: {', '.join(counts)}\n")
    dropped = sum(manifest["dropped"].values())
    if dropped:
        sys.stdout.write(f"dropped {dropped:,}: see {place}/dropped.csv\n")


def check_workers(count: int) -> None:
    """Raise DataError for --workers below 1."""
    if count < 1:
        raise DataError(f"--workers {count}: at least 1 process is needed")


def first_line(text: str | None) -> str:
    """Return the first line of a docstring."""
    return (text or "").strip().splitlines()[0]

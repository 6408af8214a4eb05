"""`msvl gradcheck`: does training on N ranks follow the gradient of the loss it claims?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

MISTAKE_NAMES = ("detached-gather", "rank-local-negatives", "unscaled")


def add_parsers(groups: Any) -> None:
    """Add `msvl gradcheck`."""
    parser = groups.add_parser(
        "gradcheck",
        help="compare losses and gradients of one process and of N ranks",
        description="Run a configuration's model and objectives, or anybody's contrastive loss, on one process and on N "
        "ranks over gloo, and compare values and gradients. Exit code 1 when they differ.",
        epilog="Examples: msvl gradcheck configs/pretrain/mimic_cxr.yaml --shrink; "
        "msvl gradcheck --loss open_clip.loss:ClipLoss --ranks 4",
    )
    parser.add_argument("config", nargs="?", help="YAML file, see configs/pretrain/")
    parser.add_argument("--ranks", type=int, default=4, help="processes (default: %(default)s)")
    parser.add_argument("--shrink", action="store_true", help="make the model small; the objectives stay as they are")
    parser.add_argument("--pairs", type=int, help="pairs per rank (default: 2; of --loss: 4)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative, fp32 (default: %(default)s)")
    parser.add_argument(
        "--break", dest="broken", choices=MISTAKE_NAMES, help="make a popular mistake, and see it found"
    )
    parser.add_argument("--loss", metavar="MODULE:CLASS", help="check this loss instead of a configuration")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the loss's constructor, YAML; {class: MODULE:CLASS, ...} builds a loss inside a wrapper",
    )
    parser.add_argument("--out", type=Path, help="JSON file (default: gradcheck.json in the run's folder)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="change values of the configuration")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, print, store; return 0 when N ranks do what one process does, else 1."""
    from msvl.config.errors import ConfigError

    if arguments.config and "=" in arguments.config:
        arguments.overrides.insert(0, arguments.config)
        arguments.config = None
    if (arguments.config is None) == (arguments.loss is None):
        raise ConfigError("msvl gradcheck needs a configuration, or --loss MODULE:CLASS")
    if arguments.ranks < 2:
        raise ConfigError(f"--ranks {arguments.ranks}: at least 2, there is nothing to compare otherwise")
    if arguments.pairs is not None and arguments.pairs < 1:
        raise ConfigError(f"--pairs {arguments.pairs}: at least 1 pair per rank")
    _check_companions(arguments)
    if arguments.out is not None and not arguments.out.parent.is_dir():
        raise ConfigError(f"--out {arguments.out}: there is no folder {arguments.out.parent}")
    verdict, out = _foreign(arguments) if arguments.loss else _own(arguments)
    text = json.dumps(verdict.as_json(), indent=1, allow_nan=False) + "\n"
    table = verdict.table() + "\n\n" + "\n".join(verdict.sentences()) + "\n"
    sys.stdout.write(text if arguments.json else table)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    elsewhere = sys.stderr if arguments.json else sys.stdout
    elsewhere.write(f"Wrote {out}\n" if out else "Not stored; --out FILE stores it\n")
    return 0 if verdict.right else 1


def _check_companions(arguments: argparse.Namespace) -> None:
    """Refuse words that would be ignored: of a configuration beside --loss, and the other way round."""
    from msvl.config.errors import ConfigError

    if arguments.loss is None:
        if arguments.option:
            raise ConfigError(f"--option {arguments.option[0]} belongs to --loss; a configuration takes key.path=value")
        return
    ignored = {"--break": arguments.broken, "--shrink": arguments.shrink, "key.path=value": arguments.overrides}
    for name, given in ignored.items():
        if given:
            raise ConfigError(f"{name} belongs to a configuration and means nothing beside --loss")
    for word in arguments.option:
        if "=" not in word:
            raise ConfigError(f"--option {word}: expected NAME=VALUE")


def _own(arguments: argparse.Namespace) -> tuple[Any, Path | None]:
    from msvl.config.load import load_config
    from msvl.config.private import private_folder
    from msvl.training.config import PretrainConfig
    from msvl.training.gradcheck.compare import compare
    from msvl.training.gradcheck.own import PAIRS_PER_RANK, measure, parameter_groups
    from msvl.training.gradcheck.processes import run_processes
    from msvl.training.gradcheck.sizes import shrink

    config = load_config(arguments.config, arguments.overrides, PretrainConfig)
    tree = config.model_dump(mode="json", by_alias=True)
    tree = shrink(tree) if arguments.shrink else tree
    pairs = arguments.ranks * (arguments.pairs or PAIRS_PER_RANK)
    one = run_processes(1, measure, tree, pairs, None)[0]
    many = run_processes(arguments.ranks, measure, tree, pairs, arguments.broken)[0]
    groups = parameter_groups(list(next(iter(one.gradients.values()))))
    out = arguments.out
    if out is None:
        folder = Path(config.run.folder) / config.run.name
        private_folder(folder)
        out = folder / (f"gradcheck-{arguments.broken}.json" if arguments.broken else "gradcheck.json")
    return compare(one, many, ranks=arguments.ranks, tolerance=arguments.tolerance, groups=groups), out


def _foreign(arguments: argparse.Namespace) -> tuple[Any, Path | None]:
    from msvl.config.imports import load_class
    from msvl.training.gradcheck.compare import compare
    from msvl.training.gradcheck.foreign import PAIRS_PER_RANK, foreign_groups, measure_foreign
    from msvl.training.gradcheck.processes import run_processes

    load_class(arguments.loss, where="--loss")
    options = {}
    for word in arguments.option:
        name, _, value = word.partition("=")
        options[name] = yaml.safe_load(value)
    pairs = arguments.ranks * (arguments.pairs or PAIRS_PER_RANK)
    one = run_processes(1, measure_foreign, arguments.loss, options, pairs)[0]
    many = run_processes(arguments.ranks, measure_foreign, arguments.loss, options, pairs)[0]
    groups = foreign_groups(list(one.gradients["loss"]))
    return compare(one, many, ranks=arguments.ranks, tolerance=arguments.tolerance, groups=groups), arguments.out

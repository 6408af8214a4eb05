"""`msvl gradcheck`: does training on N ranks follow the gradient of the loss it claims?"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from msvl.training.gradcheck.sizes import CONFIG_PAIRS, LOSS_PAIRS, shrink

if TYPE_CHECKING:  # torch is not loaded for a mistake of typing
    from msvl.training.gradcheck.compare import Measured, Verdict

MISTAKE_NAMES = ("detached-gather", "rank-local-negatives", "unscaled")
ASKED = ("config", "overrides", "shrink", "broken", "loss", "option", "pairs")
"""Of the command line, stored with the result: a check of a small model is not one of the whole."""


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
    parser.add_argument("--pairs", type=int, help=f"pairs per rank (default: {CONFIG_PAIRS}; of --loss: {LOSS_PAIRS})")
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
    if arguments.pairs is None:
        arguments.pairs = LOSS_PAIRS if arguments.loss else CONFIG_PAIRS
    verdict, out = _foreign(arguments) if arguments.loss else _own(arguments)
    asked = {name: getattr(arguments, name) for name in ASKED}
    text = json.dumps({"asked": asked} | verdict.as_json(), indent=1, allow_nan=False) + "\n"
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


def _own(arguments: argparse.Namespace) -> tuple[Verdict, Path | None]:
    from msvl.config.load import load_config
    from msvl.config.private import private_folder
    from msvl.training.config import PretrainConfig
    from msvl.training.gradcheck.own import measure, parameter_groups

    config = load_config(arguments.config, arguments.overrides, PretrainConfig)
    tree = config.model_dump(mode="json", by_alias=True)
    tree = shrink(tree) if arguments.shrink else tree
    verdict = _compared(arguments, parameter_groups, measure, tree, arguments.ranks * arguments.pairs, arguments.broken)
    if arguments.out is not None:
        return verdict, arguments.out
    folder = Path(config.run.folder) / config.run.name
    private_folder(folder)
    return verdict, folder / (f"gradcheck-{arguments.broken}.json" if arguments.broken else "gradcheck.json")


def _foreign(arguments: argparse.Namespace) -> tuple[Verdict, Path | None]:
    from msvl.config.imports import load_class
    from msvl.training.gradcheck.foreign import foreign_groups, measure_foreign

    load_class(arguments.loss, where="--loss")
    options = {}
    for word in arguments.option:
        name, _, value = word.partition("=")
        options[name] = yaml.safe_load(value)
    pairs = arguments.ranks * arguments.pairs
    return _compared(arguments, foreign_groups, measure_foreign, arguments.loss, options, pairs), arguments.out


def _compared(
    arguments: argparse.Namespace,
    groups_of: Callable[[list[str]], dict[str, str]],
    measure: Callable[..., Measured],
    *words: Any,
) -> Verdict:
    """Measure on one process and on N ranks, saying so, and compare."""
    from msvl.training.gradcheck.compare import compare
    from msvl.training.gradcheck.processes import run_processes

    found = []
    for world in (1, arguments.ranks):
        sys.stderr.write(f"msvl gradcheck: measuring on {world} {'process' if world == 1 else 'ranks'}\n")
        found.append(run_processes(world, measure, *words)[0])
    one, many = found
    groups = groups_of(list(next(iter(one.gradients.values()))))
    return compare(one, many, ranks=arguments.ranks, tolerance=arguments.tolerance, groups=groups)

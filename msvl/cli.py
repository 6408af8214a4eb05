"""The `msvl` command: finds the group's own parser and calls it. Importing torch is left to what needs it."""

import argparse
import sys
from collections.abc import Sequence

from msvl import __version__
from msvl.config.errors import MsvlError
from msvl.data import cli as data_cli
from msvl.environment import prepare_environment
from msvl.evaluation import cli as evaluation_cli
from msvl.training import launch, quickstart


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="msvl",
        description="Pretrain and judge radiology vision-language foundation models (arXiv 2401.01583).",
        epilog="Example: msvl train configs/pretrain/quickstart.yaml train.steps=100",
    )
    parser.add_argument("--version", action="version", version=f"msvl {__version__}")
    groups = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (launch, data_cli, evaluation_cli, quickstart):
        module.add_parsers(groups)
    for command in groups.choices.values():
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 done, 1 the answer is no, 2 the user can fix it; anything else is our fault."""
    arguments = build_parser().parse_args(argv)
    try:
        prepare_environment()
        return arguments.run(arguments)
    except MsvlError as error:
        if arguments.debug:
            raise
        sys.stderr.write(f"msvl: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""The `msvl` command: imports only what the typed command needs, so that `msvl --help` answers at once."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from msvl import __version__
from msvl.config.errors import MsvlError
from msvl.environment import prepare_environment

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("msvl.training.launch", "pretrain on radiograph-report pairs"),
    "fetch": ("msvl.training.fetch", "bring named weights and tokenizers into a cache, for nodes without internet"),
    "gradcheck": ("msvl.training.gradcheck.cli", "compare losses and gradients of one process and of N ranks"),
    "data": ("msvl.data.cli", "source data sets to shards, and checks"),
    "evaluate": ("msvl.evaluation.cli", "judge a model on held-out data"),
    "ablation": ("msvl.training.ablation", "what each scale adds: every row, several seeds, paired"),
    "report": ("msvl.evaluation.cli", "write report.html and results.json of a run"),
    "compare": ("msvl.evaluation.protocol_command", "two models on the same samples, paired"),
    "export": ("msvl.evaluation.export_cli", "write encoders that plain transformers loads"),
    "predict": ("msvl.evaluation.reading_cli", "zero-shot findings of image files"),
    "ground": ("msvl.evaluation.reading_cli", "draw where a phrase is in an image"),
    "protocol": ("msvl.evaluation.protocol_cli", "what a number was measured by, and why two papers' numbers differ"),
    "runs": ("msvl.training.runs_cli", "list runs and their checkpoints"),
    "quickstart": ("msvl.training.quickstart", "simulate, pack, train, judge and report in about ten minutes"),
}
"""Command -> the module whose `add_parsers` describes it, and its line in the list."""


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """Build the parser with the typed command in full and the others by name."""
    parser = argparse.ArgumentParser(
        prog="msvl",
        description="Pretrain and judge radiology vision-language foundation models (arXiv 2401.01583).",
        epilog="Example: msvl train configs/pretrain/quickstart.yaml train.steps=100. "
        "`msvl COMMAND --help` tells about a command.",
    )
    parser.add_argument("--version", action="version", version=f"msvl {__version__}")
    groups = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    if command in COMMANDS:
        importlib.import_module(COMMANDS[command][0]).add_parsers(groups)
        groups.choices[command].add_argument("--debug", action="store_true", help="show the traceback of an error")
    for name, (_, text) in COMMANDS.items():
        if name not in groups.choices:
            groups.add_parser(name, help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 done, 1 the answer is no, 2 the user can fix it; anything else is our fault."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in words if not word.startswith("-")), None)
    arguments = _parse(build_parser(command), words)
    try:
        prepare_environment()
        code: int = arguments.run(arguments)
    except MsvlError as error:
        if arguments.debug:
            raise
        sys.stderr.write(f"msvl: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return code


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Parse; key.path=value words may stand behind options too, which argparse's subcommands do not allow."""
    arguments, rest = parser.parse_known_args(words)
    if rest and (not hasattr(arguments, "overrides") or any(word.startswith("-") or "=" not in word for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


if __name__ == "__main__":
    sys.exit(main())

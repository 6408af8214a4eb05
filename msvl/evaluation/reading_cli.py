"""`msvl predict` and `msvl ground`: a trained model on the user's own pictures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msvl.config.errors import CheckpointError, ConfigError, DataError
from msvl.evaluation.locate import FINISHED

if TYPE_CHECKING:
    from msvl.evaluation.prompts import PromptSet

PREDICT_EXAMPLE = 'Example: msvl predict scan.png --findings "pleural effusion,nodule"'
GROUND_EXAMPLE = 'Example: msvl ground scan.png "left pleural effusion" --out overlay.png'
NOTICE = "Research use, not a medical device. A score above 0 leans to present; it is no probability.\n"
RUNS = Path("runs")


def add_parsers(groups: Any) -> None:
    """Add the two commands."""
    predict = groups.add_parser("predict", help="zero-shot findings of image files", epilog=PREDICT_EXAMPLE)
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG, JPEG or DICOM")
    predict.add_argument("--findings", metavar="A,B", help="findings to look for, by a shipped prompt set")
    predict.add_argument("--prompt-set", default="maco", help="prompt set for --findings (default: maco)")
    predict.add_argument(
        "--prompts", type=Path, metavar="FILE", help="YAML {finding: {positive: [...], negative: [...]}}"
    )
    predict.add_argument("--json", action="store_true", help="print JSON")
    ground = groups.add_parser("ground", help="draw where a phrase is in an image", epilog=GROUND_EXAMPLE)
    ground.add_argument("image", type=Path, metavar="IMAGE", help="PNG, JPEG or DICOM")
    ground.add_argument("phrase", help="what to look for")
    ground.add_argument(
        "--out", type=Path, help="overlay to write (default: NAME-overlay.png in this folder, NAME being the image's)"
    )
    ground.add_argument("--sigma", type=float, default=0.0, help="Gaussian on the patch grid, in patches (default: 0)")
    for parser in (predict, ground):
        parser.add_argument(
            "--model", type=Path, help="run, checkpoint or exported model (default: newest run in runs/)"
        )
        parser.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """Run the command that was typed."""
    return _predict(arguments) if arguments.command == "predict" else _ground(arguments)


def newest_run(runs: Path) -> Path:
    """Return the run with the newest finished checkpoint. Raises CheckpointError when there is none."""
    finished = [mark for mark in runs.glob(f"*/checkpoints/step-*/{FINISHED}")]
    if not finished:
        raise CheckpointError(
            f"{runs}/ holds no finished run: name a model with --model, or make one with `make quickstart`"
        )
    return max(finished, key=lambda mark: (mark.stat().st_mtime_ns, str(mark))).parents[2]


def _predict(arguments: argparse.Namespace) -> int:
    prompts = _prompts(arguments)
    place = arguments.model or newest_run(RUNS)
    from msvl.evaluation.reading import Reader
    from msvl.evaluation.tables import Table, as_text

    found = Reader.open(place).predict(arguments.images, prompts)
    if arguments.json:
        content = [
            {"image": str(path), "findings": {item.name: item.score for item in own}}
            for path, own in zip(arguments.images, found, strict=True)
        ]
        sys.stdout.write(
            json.dumps({"model": str(place), "prompts": prompts.digest, "images": content}, indent=2) + "\n"
        )
        return 0
    rows = [(str(path), item.name, f"{item.score:+.3f}", "present" if item.score > 0 else "absent")
            for path, own in zip(arguments.images, found, strict=True) for item in own]  # fmt: skip
    sys.stdout.write(as_text(Table(("image", "finding", "score", "leans to"), rows)))
    sys.stderr.write(f"Model {place}, prompts {prompts.origin} {prompts.digest}. {NOTICE}")
    return 0


def _prompts(arguments: argparse.Namespace) -> PromptSet:
    from msvl.evaluation.prompts import PromptSet, read_prompts
    from msvl.evaluation.published_prompts import published_prompts

    if arguments.prompts is not None and arguments.findings is not None:
        raise ConfigError("--findings and --prompts: give one of them")
    if arguments.prompts is not None:
        return PromptSet(read_prompts(arguments.prompts), origin=str(arguments.prompts))
    names = [name.strip() for name in (arguments.findings or "").split(",") if name.strip()]
    if not names:
        raise ConfigError('say what to look for: --findings "pleural effusion,nodule", or --prompts FILE')
    return published_prompts(arguments.prompt_set, names)


def _ground(arguments: argparse.Namespace) -> int:
    if arguments.sigma < 0:
        raise ConfigError(f"--sigma {arguments.sigma:g}: give 0 or more")
    out = arguments.out or Path(f"{arguments.image.stem}-overlay.png")
    if out.resolve() == arguments.image.resolve():
        raise DataError(f"--out {out} is the image itself: name another file")
    place = arguments.model or newest_run(RUNS)
    from msvl.evaluation.reading import Reader

    found = Reader.open(place).ground(arguments.image, arguments.phrase, sigma=arguments.sigma)
    found.save(out)
    x, y = found.peak
    sys.stdout.write(f"{out}\n")
    sys.stderr.write(f"Model {place}; nearest patch at x {x}, y {y} px. Research use, not a medical device.\n")
    return 0

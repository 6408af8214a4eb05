"""`msvl quickstart`: the main job end to end on simulated radiographs, by the very commands that a user types."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msvl.config.errors import MsvlError
from msvl.environment import die_with_parent
from msvl.training.cli import DEFAULT_CONFIG

PATIENTS = {"train": 6000, "val": 300, "test": 600}
SHIFTED = {"train": 0, "val": 0, "test": 600}


class PhaseFailed(MsvlError):
    """A phase ended with an exit code that says what to do; its own message stands above."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the command above ended with exit code {code}")
        self.code = code


def add_parsers(groups: Any) -> None:
    """Add `msvl quickstart`."""
    parser = groups.add_parser(
        "quickstart",
        help="simulate, pack, train, judge and report in about ten minutes",
        description="Run the main job on simulated radiographs: shards, training, judgement, report page.",
        epilog="Example: msvl quickstart --seed 1",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the training run (the phantom stays the same)")
    parser.add_argument("--again", action="store_true", help="move a finished run of that name aside and repeat it")
    parser.add_argument("--shards", type=Path, default=Path("shards"), help="where packed sets lie (default: shards)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders lie (default: runs)")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="change values of the configuration")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run every phase that is not done yet; the last lines say where the result lies."""
    name = "quickstart" if arguments.seed == 0 else f"quickstart-seed{arguments.seed}"
    folder = arguments.runs / name
    if arguments.again and folder.exists():
        aside = folder.with_name(f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        folder.rename(aside)
        sys.stderr.write(f"moved the earlier run to {aside}\n")
    if (folder / "report.html").is_file():  # written last
        sys.stderr.write(f"{folder} is finished; `msvl quickstart --again` repeats it\n")
        return _say_result(folder)
    seconds = _read_seconds(folder)
    try:
        _pack(arguments.shards, seconds)
        _train(arguments, name, folder, seconds)
        _judge(arguments.shards, folder, seconds)
        _write_seconds(folder, seconds | {"total": round(sum(seconds.values()), 1)})
        _msvl(["report", str(folder)], {}, "report")
    except PhaseFailed as error:
        _write_seconds(folder, seconds)
        return error.code
    return _say_result(folder)


def _pack(shards: Path, seconds: dict[str, float]) -> None:
    for name, patients, options in (
        ("phantom", PATIENTS, ["--train-tokenizer", "1200"]),
        ("phantom-shifted", SHIFTED, ["--variant", "shifted"]),
    ):
        if (shards / name / "manifest.json").is_file():
            continue
        counts = [word for split, number in patients.items() for word in (f"--{split}", str(number))]
        _msvl(["data", "pack", "phantom", "--out", str(shards / name), *counts, *options], seconds, f"pack {name}")


def _train(arguments: argparse.Namespace, name: str, folder: Path, seconds: dict[str, float]) -> None:
    overrides = [
        f"run.name={name}",
        f"run.folder={arguments.runs}",
        f"train.seed={arguments.seed}",
        f"data.path={arguments.shards / 'phantom'}",
        *arguments.overrides,
    ]
    resume = ["--resume"] if folder.exists() else []
    _msvl(["train", os.path.relpath(DEFAULT_CONFIG), *resume, *overrides], seconds, "train")


def _judge(shards: Path, folder: Path, seconds: dict[str, float]) -> None:
    for label, data in (("test", "phantom"), ("shifted", "phantom-shifted")):
        words = ["evaluate", str(folder), "--data", str(shards / data), "--split", "test", "--name", label]
        _msvl([*words, "--untrained"], seconds, f"evaluate {label}")


def _msvl(words: Sequence[str], seconds: dict[str, float], phase: str) -> None:
    """Run one msvl command as a user would; add its duration to `seconds`. Raises PhaseFailed with its exit code."""
    sys.stderr.write(f"\n== {phase} ==\n$ msvl {' '.join(words)}\n")
    sys.stderr.flush()
    began = time.perf_counter()
    code = subprocess.run(
        [sys.executable, "-m", "msvl.cli", *words],
        check=False,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - single-threaded here, and no orphan may stay
    ).returncode
    seconds[phase] = round(seconds.get(phase, 0.0) + time.perf_counter() - began, 1)
    sys.stderr.write(f"   {phase} took {seconds[phase]:.0f} s\n")
    if code:
        raise PhaseFailed(code)


def _read_seconds(folder: Path) -> dict[str, float]:
    path = folder / "seconds.json"
    seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    seconds.pop("total", None)
    return seconds


def _write_seconds(folder: Path, seconds: dict[str, float]) -> None:
    if folder.is_dir():
        (folder / "seconds.json").write_text(json.dumps(seconds, indent=1), encoding="utf-8")


def _say_result(folder: Path) -> int:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    lines = [
        "",
        f"zero-shot AUC  {results['zero_shot']['auc_mean']:.3f}  (untrained {results['zero_shot']['auc_mean_untrained']:.3f})",
        f"retrieval R@5  {results['retrieval']['report_r5']:.3f}  (chance {results['retrieval']['report_r5_chance']:.3f})",
        f"grounding CNR  {results['grounding']['cnr']:.3f}  (untrained {results['grounding']['cnr_untrained']:.3f})",
        f"linear probe   {results['linear_probe']['auc_mean']:.3f}  "
        f"(untrained {results['linear_probe']['auc_mean_untrained']:.3f})",
        f"took           {results['seconds']['total'] / 60:.1f} minutes",
        f"results        {folder / 'results.json'}",
        f"open           {(folder / 'report.html').resolve().as_uri()}",
    ]
    sys.stderr.write("\n".join(lines) + "\n")
    return 0

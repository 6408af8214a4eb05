"""`msvl quickstart`: the main job end to end, by the very commands that a user types."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msvl.config.errors import MsvlError
from msvl.environment import die_with_parent
from msvl.training.cli import DEFAULT_CONFIG

CONFIGS = DEFAULT_CONFIG.parent


@dataclass(frozen=True)
class Job:
    """What the phases work on."""

    name: str
    config: Path
    sets: dict[str, list[str]]
    """Packed set -> words of `msvl data pack` but for --out; the first one is trained on."""
    caveat: str
    """Printed beside the figures."""


def _patients(train: int, val: int, test: int) -> list[str]:
    return ["--train", str(train), "--val", str(val), "--test", str(test)]


PHANTOM = Job(
    name="quickstart",
    config=CONFIGS / "quickstart.yaml",
    sets={
        "phantom": ["phantom", *_patients(6000, 300, 600), "--train-tokenizer", "1200"],
        "phantom-shifted": ["phantom", *_patients(0, 0, 600), "--variant", "shifted"],
    },
    caveat="simulated radiographs: the figures say nothing about patients",
)


def real_job(folder: Path) -> Job:
    """Return the same job on the radiographs that the COVID-19 image collection of Cohen et al. (2020) has notes for."""
    words = [
        "table", "--images", str(folder / "images"), "--reports", str(folder / "metadata.csv"),
        "--image-column", "filename", "--report-column", "clinical_notes", "--patient-column", "patientid",
        "--view-column", "view", "--sex-column", "sex", "--age-column", "age", "--category-column", "finding",
        "--name", "covid-cxr",
        "--licence", "per image, most CC BY-NC-SA", "--val-share", "0.2", "--test-share", "0.25",
        "--train-tokenizer", "800",
    ]  # fmt: skip
    return Job(
        name="covid_cxr",
        config=CONFIGS / "covid_cxr.yaml",
        sets={"covid-cxr": words},
        caveat="so few images prove that the job runs on real files, not how good a model is",
    )


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
        epilog="Examples: msvl quickstart --seed 1; msvl quickstart --real ../shared/data/covid-cxr",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the training run (the phantom stays the same)")
    parser.add_argument(
        "--real", type=Path, metavar="FOLDER",
        help="the same job on the few real radiographs of FOLDER (metadata.csv and images/, see docs/data.md)",
    )  # fmt: skip
    parser.add_argument("--again", action="store_true", help="move a finished run of that name aside and repeat it")
    parser.add_argument("--shards", type=Path, default=Path("shards"), help="where packed sets lie (default: shards)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders lie (default: runs)")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="change values of the configuration")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run every phase that is not done yet; the last lines say where the result lies."""
    if arguments.real and not (arguments.real / "metadata.csv").is_file():
        sys.stderr.write(
            f"skipped: {arguments.real} has no metadata.csv; see docs/data.md for where the data comes from\n"
        )
        return 0
    job = real_job(arguments.real) if arguments.real else PHANTOM
    name = job.name if arguments.seed == 0 else f"{job.name}-seed{arguments.seed}"
    folder = arguments.runs / name
    if arguments.again and folder.exists():
        aside = folder.with_name(f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        folder.rename(aside)
        sys.stderr.write(f"moved the earlier run to {aside}\n")
    if (folder / "report.html").is_file():  # written last
        sys.stderr.write(f"{folder} is finished; --again repeats it\n")
        return _say_result(folder, job)
    seconds = _read_seconds(folder)
    try:
        _pack(job, arguments.shards, seconds)
        _train(job, arguments, name, folder, seconds)
        _judge(job, arguments.shards, folder, seconds)
        _write_seconds(folder, seconds | {"total": round(sum(seconds.values()), 1)})
        _msvl(["report", str(folder)], {}, "report")
    except PhaseFailed as error:
        _write_seconds(folder, seconds)
        return error.code
    return _say_result(folder, job)


def _pack(job: Job, shards: Path, seconds: dict[str, float]) -> None:
    for name, words in job.sets.items():
        if not (shards / name / "manifest.json").is_file():
            _msvl(["data", "pack", *words, "--out", str(shards / name)], seconds, f"pack {name}")


def _train(job: Job, arguments: argparse.Namespace, name: str, folder: Path, seconds: dict[str, float]) -> None:
    overrides = [
        f"run.name={name}",
        f"run.folder={arguments.runs}",
        f"train.seed={arguments.seed}",
        f"data.path={arguments.shards / next(iter(job.sets))}",
        *arguments.overrides,
    ]
    resume = ["--resume"] if folder.exists() else []
    _msvl(["train", os.path.relpath(job.config), *resume, *overrides], seconds, "train")


def _judge(job: Job, shards: Path, folder: Path, seconds: dict[str, float]) -> None:
    own = next(iter(job.sets))
    for name in job.sets:
        label = "test" if name == own else name.removeprefix(f"{own}-")
        words = ["evaluate", str(folder), "--data", str(shards / name), "--split", "test", "--name", label]
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


def _say_result(folder: Path, job: Job) -> int:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    lines = [""]
    for task, name, title, beside in (
        ("zero_shot", "auc_mean", "zero-shot AUC", "untrained"),
        ("retrieval", "report_r5", "retrieval R@5", "chance"),
        ("grounding", "cnr", "grounding CNR", "untrained"),
        ("linear_probe", "auc_mean", "linear probe", "untrained"),
    ):
        found = results.get(task, {})
        if name in found:
            other = found.get(f"{name}_{beside}")
            lines.append(f"{title:13s}  {found[name]:.3f}" + (f"  ({beside} {other:.3f})" if other is not None else ""))
    lines += [
        f"beware         {job.caveat}",
        f"took           {results['seconds']['total'] / 60:.1f} minutes",
        f"results        {folder / 'results.json'}",
        f"open           {(folder / 'report.html').resolve().as_uri()}",
    ]
    sys.stderr.write("\n".join(lines) + "\n")
    return 0

"""The commission's own lines, typed in a fresh clone of what is committed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.runs import ROOT, execute

BIN = Path(sys.prefix) / "bin"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh") / "msvl"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


def typed(clone: Path, line: str, limit: float = 200) -> tuple[int, str]:
    done = execute(
        [
            "env",
            "--ignore-environment",
            f"PATH={BIN}:/usr/bin:/bin",
            "HOME=" + str(clone.parent),
            "bash",
            "-c",
            f"cd {clone} && {line}",
        ],
        limit=limit,
    )
    return done.code, done.output


@pytest.mark.ranks
@pytest.mark.evidence("`accelerate launch msvl/train.py` without shards names the command that makes them", how="cpu")
def test_accelerate_launch_without_shards_names_the_command(clone: Path) -> None:
    code, output = typed(clone, "accelerate launch msvl/train.py")
    assert code != 0
    ours = [line for line in output.splitlines() if line.startswith("msvl: ")]
    assert len(ours) == 1, output
    assert "msvl data pack phantom --out shards/phantom" in ours[0]


@pytest.mark.ranks
@pytest.mark.evidence(
    "`accelerate launch msvl/train.py` without accelerate config, flags or environment trains the quickstart's configuration, "
    "and the first screen says which ZeRO stage is on",
    how="cpu",
)
def test_accelerate_launch_trains_the_quickstart(clone: Path) -> None:
    code, output = typed(
        clone,
        f"PYTHONPATH={clone} msvl data pack phantom --out shards/phantom --train 64 --val 16 --test 16 --train-tokenizer 400 && "
        "accelerate launch msvl/train.py train.steps=1 train.global_batch=8 validation.samples=16",
    )
    assert code == 0, output[-3000:]
    assert "ZeRO-2" in output
    assert "8 = 1 ranks x 8 x accumulation 1" in output
    assert (clone / "runs" / "quickstart" / "checkpoints" / "step-00000001" / "COMPLETE").is_file()
    assert list((clone / "runs" / "quickstart" / "wandb").glob("offline-run-*")) or list(
        (clone / "runs" / "quickstart" / "wandb").glob("**/offline-run-*")
    )
    shutil.rmtree(clone / "runs")


@pytest.mark.ranks
@pytest.mark.parametrize(
    "start",
    [
        "torchrun --nproc_per_node 2 msvl/train.py",
        "python -m msvl.train",
        "cd / && accelerate launch {clone}/msvl/train.py",
    ],
)
def test_other_ways_to_start(clone: Path, start: str) -> None:
    words = "--config {clone}/configs/pretrain/quickstart.yaml train.steps=1 train.global_batch=8 validation.samples=16 " \
        "wandb.enabled=false run.folder={clone}/runs data.path={clone}/shards/phantom"  # fmt: skip
    code, output = typed(clone, f"{start} {words}".format(clone=clone))
    assert code == 0, output[-3000:]
    assert "ZeRO-2" in output
    shutil.rmtree(clone / "runs")


def test_msvl_train_prints_the_launch_line(clone: Path) -> None:
    line = "msvl train configs/pretrain/quickstart.yaml data.path=shards/phantom train.steps=1 --ranks 2 --dry-run"
    code, output = typed(clone, f"export PYTHONPATH={clone} && {line} && python -c 'import msvl; print(msvl.__file__)'")
    assert code == 0, output[-3000:]
    printed, imported = output.strip().splitlines()
    assert imported == str(clone / "msvl" / "__init__.py"), "the clone's msvl answers, not the checkout's"
    assert printed.startswith("$ accelerate launch --use_deepspeed ")
    assert printed.endswith(
        "msvl/train.py --config configs/pretrain/quickstart.yaml data.path=shards/phantom train.steps=1"
    )


def test_required_packages_are_in_install_requires() -> None:
    text = (ROOT / "setup.py").read_text()
    for name in ("torch", "deepspeed", "accelerate", "transformers", "webdataset", "wandb", "submitit", "einops"):
        assert f'"{name}>=' in text

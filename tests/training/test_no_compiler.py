"""What DeepSpeed compiles for a training: nothing on GPUs, whose nodes have no compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.runs import execute, tiny_config
from tests.integration.conftest import tiny_set  # noqa: F401 - the same fixture

TRAIN = """
import sys
from msvl.environment import prepare_environment
prepare_environment()
from deepspeed.ops.op_builder.builder import OpBuilder
def spied(load):
    def spy(self, *words, **named):
        sys.stderr.write(f"BUILT {type(self).__name__}\\n")
        return load(self, *words, **named)
    return spy
OpBuilder.load, OpBuilder.jit_load = spied(OpBuilder.load), spied(OpBuilder.jit_load)
from msvl.training.cli import main
sys.exit(main(sys.argv[1:]))
"""
ON_GPUS = """
from deepspeed.accelerator import get_accelerator
for name in {names}:
    assert get_accelerator().create_op_builder(name) is None, name
assert type(get_accelerator()).__name__ == "CUDA_Accelerator"
"""


@pytest.mark.evidence(
    "A training compiles no DeepSpeed op on GPUs: the only one that it builds on CPU, its shared memory, does not exist there",
    how="cpu",
)
@pytest.mark.parametrize("stage", [2, 3])
def test_the_only_op_that_a_training_builds_is_none_of_cuda(stage: int, tiny_set: Path, tmp_path: Path) -> None:  # noqa: F811
    config = tiny_config(
        tmp_path / "c.yaml", data=tiny_set, runs=tmp_path, name="r", zero={"stage": stage}, train={"steps": 1, "precision": "bf16"},
    )  # fmt: skip
    done = execute([sys.executable, "-c", TRAIN, "--config", str(config)])
    assert done.code == 0, done.output
    built = {line.split()[1] for line in done.output.splitlines() if line.startswith("BUILT ")}
    assert built == {"ShareMemCommBuilder"}
    asked = subprocess.run(
        [sys.executable, "-c", ON_GPUS.format(names=sorted(built))],
        env=os.environ | {"DS_ACCELERATOR": "cuda"}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr

"""A tiny packed phantom that all integration tests read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers.runs import execute


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 training, 16 validation and 16 test patients at 64 px, packed by the real command."""
    out = tmp_path_factory.mktemp("shards") / "tiny"
    done = execute(
        [
            sys.executable, "-m", "msvl.cli", "data", "pack", "phantom", "--out", str(out), "--train", "48", "--val", "16",
            "--test", "16", "--size", "64", "--train-tokenizer", "400",
        ],
        limit=120,
    )  # fmt: skip
    assert done.code == 0, done.output
    return out

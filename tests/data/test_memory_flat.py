"""Memory of a loader process over many samples: nothing is kept of what was read."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Literal

import pytest

from msvl.data.config import DataConfig, ReportConfig
from msvl.data.make_tokens import tokens_of_run
from msvl.data.pack import PackOptions, pack
from msvl.data.planned_steps import Share
from msvl.data.stream import training_batches
from msvl.data.tokenise import ReportTokeniser
from msvl.data.training_data import TrainingData
from tests.helpers.tiny_source import TinySource

GLOBAL_BATCH = 100
SHARDS = 200
"""More than the 160 whose index a process keeps mapped."""
LOOKS = 20


def resident_mb(process: int) -> float:
    """Return what a process has in memory: its own, the pages of libraries and indexes, batches on their way."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.parametrize(
    ("samples", "token_ids"),
    [
        (20_000, "stored"),
        pytest.param(100_000, "stored", marks=pytest.mark.slow),
        pytest.param(100_000, "online", marks=pytest.mark.slow),
    ],
)
@pytest.mark.evidence("A loader process's memory is flat over 100,000 samples", how="cpu")
def test_memory_of_a_loader_process_does_not_grow(
    samples: int, token_ids: Literal["online", "stored"], tmp_path: Path
) -> None:
    places = samples // 10
    options = PackOptions(
        short_side=24, shard_samples=places // SHARDS, val_share=0, test_share=0, tokenizer_vocabulary=120
    )
    pack(TinySource(places // 2, size=24), tmp_path / "set", options, workers=2, progress=False)
    report = ReportConfig(max_tokens=24, max_sentences=4, sentence_sampling="shuffle")
    config = DataConfig(path=str(tmp_path / "set"), image_size=16, workers=1, report=report)
    data = TrainingData.open(config, 0)
    assert len(data.sets[0].split("train").shards) == SHARDS
    tokeniser = ReportTokeniser(str(data.sets[0].tokenizer_path), report)
    stored = tokens_of_run(data.sets, "train", tokeniser, report) if token_ids == "stored" else None
    others = set(multiprocessing.active_children())
    batches = training_batches(data.plan, config, tokeniser, Share(GLOBAL_BATCH), start_step=0, stored=stored)
    steps = samples // GLOBAL_BATCH
    looks = []
    for step in range(1, steps + 1):
        next(batches)
        if step % (steps // LOOKS) == 0:
            (worker,) = set(multiprocessing.active_children()) - others
            assert worker.pid is not None
            looks.append(resident_mb(worker.pid))
    # By the middle five epochs were read, and all caches are full. Keeping no more than the keys of 50,000 samples takes 4 MB.
    growth = max(looks[LOOKS // 2 :]) - max(looks[: LOOKS // 2])
    assert growth < 2, f"{growth:.1f} MB more in the second half: {looks}"

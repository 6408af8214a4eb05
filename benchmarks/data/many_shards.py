"""A packed set of 200 small shards for benchmarks: noise images of 256 px, reports of about 60 words, patients of two studies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from msvl.data.config import DataConfig, ReportConfig  # noqa: E402
from msvl.data.pack import pack  # noqa: E402
from msvl.data.pack_options import PackOptions  # noqa: E402
from msvl.data.study import Entry, Record  # noqa: E402

SHARDS, SHARD_SAMPLES = 200, 50
SENTENCES = (
    "The heart is normal in size.", "There is no pleural effusion or pneumothorax.", "The lungs are clear.",
    "Mild degenerative changes of the thoracic spine.", "The mediastinal contours are stable.",
    "A nodular opacity projects over the right upper lobe.", "No acute osseous abnormality is seen.",
)  # fmt: skip


class ManySource:
    """Made-up studies of one image."""

    name = "many"
    licence = "none"
    shareable = True
    has_reports = True
    id_space = "many"
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def settings(self) -> dict[str, Any]:
        """Return nothing: there is one such source."""
        return {}

    def entries(self) -> list[Entry]:
        """List the images."""
        return [
            Entry(f"p{number // 2}", f"s{number}", "a", f"row {number}", split="train", payload=number)
            for number in range(SHARDS * SHARD_SAMPLES)
        ]

    def record(self, entry: Entry) -> Record:
        """Make one."""
        rng = np.random.default_rng(entry.payload)
        image = cv2.resize(rng.integers(0, 255, (16, 16), dtype=np.uint8), (256, 256))
        sentences = " ".join(rng.permutation(SENTENCES))
        return Record(image=image, report=f"FINDINGS: {sentences}\nIMPRESSION: Study {entry.payload}, no change.")


def make(folder: Path) -> Path:
    """Pack it, once."""
    options = PackOptions(
        short_side=256, shard_samples=SHARD_SAMPLES, val_share=0, test_share=0, tokenizer_vocabulary=300
    )
    pack(ManySource(), folder, options, workers=2)
    return folder


def data_config(folder: Path, workers: int) -> DataConfig:
    """Return how it is read: 224 px, augmented."""
    return DataConfig(
        path=str(folder), image_size=224, workers=workers, report=ReportConfig(sentence_sampling="shuffle")
    )

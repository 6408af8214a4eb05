"""Packed sets of real radiographs and real reports for the benchmark of the stream, in a folder that the caller removes.

2,000 samples as `../shared/guides/stream-baselines.md` made them: the 209 radiographs of `../shared/data/covid-cxr`, each
several times with a little crop, gamma and turn, 512 px short side, JPEG of quality 90. Reports are those of
`../shared/data/openi` of 40 words or more, about 60 on the average.
"""

from __future__ import annotations

import re
import sys
import tarfile
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from msvl.data.images import shrink  # noqa: E402
from msvl.data.pack import pack  # noqa: E402
from msvl.data.pack_options import PackOptions  # noqa: E402
from msvl.data.reports import count_words  # noqa: E402
from msvl.data.study import Entry, Record  # noqa: E402

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RADIOGRAPHS, REPORTS = DATA / "covid-cxr" / "images", DATA / "openi" / "NLMCXR_reports.tgz"
SHARD_SAMPLES, SHORT_SIDE, FINE_SIDE, VOCABULARY = 200, 512, 640, 8000
"""512 px feed models of 224; 640 feed those of 518 with crops of 0.8 of the area."""


class RealSource:
    """Radiographs with reports that belong to others: this measures time, nothing else."""

    licence = "see ../shared/data/README.md"
    shareable = False
    has_reports = True
    id_space = "stream-benchmark"
    mask_names: tuple[str, ...] = ()
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(self, name: str, first: int, count: int, side: int) -> None:
        self.name = name
        self._first, self._count, self._side = first, count, side

    def settings(self) -> dict[str, Any]:
        """Return what it is made of."""
        return {"first": self._first, "count": self._count, "side": self._side}

    def entries(self) -> list[Entry]:
        """List the samples."""
        numbers = range(self._first, self._first + self._count)
        return [
            Entry(f"p{number}", f"s{number}", "a", f"row {number}", split="train", payload=number) for number in numbers
        ]

    def record(self, entry: Entry) -> Record:
        """Make one."""
        number = int(entry.payload)
        rng = np.random.default_rng(number)
        image = cv2.imread(str(self._files[number % len(self._files)]), cv2.IMREAD_GRAYSCALE)
        height, width = image.shape
        top, left = rng.integers(0, 12, 2)
        image = image[top : height - 12 + top, left : width - 12 + left]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-2, 2), 1.0)
        image = cv2.warpAffine(image, turn, image.shape[::-1], borderMode=cv2.BORDER_REFLECT_101)
        levels = np.rint(255 * (np.arange(256) / 255) ** rng.uniform(0.9, 1.1)).astype(np.uint8)
        image = cv2.LUT(image, levels)
        scale = self._side / min(image.shape)
        if scale > 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        return Record(image=shrink(image, self._side), report=self._texts[number % len(self._texts)])

    @cached_property
    def _files(self) -> list[Path]:
        found = sorted(RADIOGRAPHS.glob("*.jpg"))
        if not found:
            raise SystemExit(f"no radiographs in {RADIOGRAPHS}")
        return found

    @cached_property
    def _texts(self) -> list[str]:
        return real_reports()


def real_reports(words: int = 40) -> list[str]:
    """Return the Open-i reports of at least so many words, with headings."""
    if not REPORTS.is_file():
        raise SystemExit(f"no reports: {REPORTS} is not there")
    texts = []
    with tarfile.open(REPORTS) as tar:
        for member in sorted((item for item in tar if item.name.endswith(".xml")), key=lambda item: item.name):
            tree = ElementTree.parse(tar.extractfile(member))  # type: ignore[arg-type]
            parts = {part.get("Label"): re.sub(r"\s+", " ", part.text or "") for part in tree.iter("AbstractText")}
            text = "\n".join(f"{name}: {parts[name]}" for name in ("FINDINGS", "IMPRESSION") if parts.get(name))
            if count_words(text) >= words:
                texts.append(text)
    return texts


def make_sets(folder: Path, samples: int) -> None:
    """Pack `large` and `small`, seven tenths and three tenths of the samples, and `fine`, a fifth of them at FINE_SIDE."""
    first = int(0.7 * samples) // SHARD_SAMPLES * SHARD_SAMPLES
    for name, start, count, side, vocabulary in (
        ("large", 0, first, SHORT_SIDE, VOCABULARY),
        ("small", first, samples - first, SHORT_SIDE, 0),
        ("fine", 0, samples // 5, FINE_SIDE, 0),
    ):
        options = PackOptions(
            short_side=side, shard_samples=SHARD_SAMPLES, val_share=0, test_share=0, tokenizer_vocabulary=vocabulary
        )
        pack(RealSource(name, start, count, side), folder / name, options, workers=2, progress=False)

"""A source of small random pictures with short reports, for tests that need no simulator."""

from __future__ import annotations

from typing import Any

import numpy as np

from msvl.config.errors import DataError
from msvl.data.study import Box, Entry, Record


class TinySource:
    """`count` patients with two images each; every tenth record is bad when `bad` is on."""

    name = "tiny"
    licence = "none"
    shareable = True
    has_reports = True
    id_space = "tiny"
    mask_names = ("left", "right")
    prompts: dict[str, dict[str, list[str]]] = {}

    def __init__(self, count: int = 30, *, size: int = 48, bad: bool = False) -> None:
        self.count, self.size, self.bad = count, size, bad

    def settings(self) -> dict[str, Any]:
        return {"count": self.count, "size": self.size}

    def entries(self) -> list[Entry]:
        return [
            Entry(
                f"p{patient}",
                f"s{patient}-{image}",
                "a",
                f"tiny row {2 * patient + image}",
                payload=2 * patient + image,
            )
            for patient in range(self.count)
            for image in range(2)
        ]

    def record(self, entry: Entry) -> Record:
        number = entry.payload
        if self.bad and number % 10 == 3:
            raise DataError(f"{entry.where}: the image is broken")
        rng = np.random.default_rng(number)
        image = rng.integers(0, 255, (self.size, self.size + 16), dtype=np.uint8)
        mask = np.zeros(image.shape, dtype=bool)
        mask[4:12, 8:24] = True
        return Record(
            image=image,
            report=f"FINDINGS: The heart is number {number} in size. No effusion is seen.\nIMPRESSION: Normal chest.",
            view="PA",
            labels={"effusion": number % 2, "nodule": None},
            boxes=[Box("small nodule", 8, 4, 16, 8, "nodule")],
            masks={"left": mask},
        )

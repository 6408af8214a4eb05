"""The phantom as a source: simulated patients, split by a hash of their number, drawn when they are read."""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

import cv2
import numpy as np

from msvl.config.errors import DataError
from msvl.data.phantom.digest import parameters_digest
from msvl.data.phantom.findings import Finding
from msvl.data.phantom.parameters import FINDINGS, VARIANTS
from msvl.data.phantom.prose import PROMPTS, phrase, report
from msvl.data.phantom.render import Phantom, simulate
from msvl.data.study import Box, Entry, Record

WORDS = 3
"""Purpose of the random stream that writes reports (see `render`)."""

SPLIT_OF_BUCKET = ("test", "val", "train", "train", "train", "train", "train", "train", "train", "train")
"""Which split a patient's hash falls into, so that test patients stay the same whatever the number of training patients."""


EXAMPLE = "msvl data pack phantom --out shards/phantom --train-tokenizer 1200"

SHORT_SIDE, SHARD_SAMPLES = 224, 500
"""Packing defaults: phantoms are small and shards few."""


class PhantomSource:
    """Simulated frontal radiographs with reports, labels, masks and phrase boxes, a pure function of the seed."""

    name = "phantom"
    licence = "Apache-2.0 (synthetic)"
    shareable = True
    has_reports = True
    id_space = "phantom"
    findings = FINDINGS
    prompts = PROMPTS
    """Held-out prompts for zero-shot classification."""
    mask_names = (*FINDINGS, "lungs", "heart")

    def __init__(
        self,
        *,
        train: int = 6000,
        val: int = 300,
        test: int = 600,
        seed: int = 0,
        size: int = 224,
        variant: str = "standard",
        studies_per_patient: float = 1.1,
    ) -> None:
        """Choose how many patients each split has.

        Args:
            train: Patients for training.
            val: Patients for validation, of one study each.
            test: Patients for the test, of one study each.
            seed: Another seed draws other patients.
            size: Side of the pictures in pixels.
            variant: `standard`, or `shifted` for another hospital's pictures and prose.
            studies_per_patient: Mean over training patients, who have one or two.

        Raises:
            DataError: An option is out of its range.
        """
        counts = {"train": train, "val": val, "test": test}
        _check_options(counts, seed=seed, size=size, variant=variant, studies_per_patient=studies_per_patient)
        self.counts = counts
        self.seed = seed
        self.size = size
        self.variant = variant
        self.studies_per_patient = studies_per_patient

    def settings(self) -> dict[str, Any]:
        """Return the options and the digest of everything that is frozen."""
        return {
            **self.counts,
            "seed": self.seed,
            "size": self.size,
            "variant": self.variant,
            "studies_per_patient": self.studies_per_patient,
            "parameters_digest": parameters_digest(),
        }

    def entries(self) -> list[Entry]:
        """List all studies, in the order of the patients' numbers."""
        left = dict(self.counts)
        entries = []
        patient = 0
        while any(left.values()):
            split, share = self._fate(patient)
            if left[split]:
                left[split] -= 1
                studies = 2 if split == "train" and share < self.studies_per_patient - 1 else 1
                entries += [self._entry(patient, study, split) for study in range(studies)]
            patient += 1
        return entries

    def record(self, entry: Entry) -> Record:
        """Draw one study and write its report.

        Raises:
            DataError: The entry is not from this source.
        """
        if not (isinstance(entry.payload, tuple) and len(entry.payload) == 2):
            raise DataError(f"{entry.where} is not an entry of the phantom: list entries with PhantomSource.entries()")
        patient, study = entry.payload
        # Packing runs one process per core: threads inside OpenCV would only compete.
        cv2.setNumThreads(1)
        variant = VARIANTS[self.variant]
        drawn = simulate(variant, seed=self.seed, patient=patient, study=study, size=self.size)
        rng = np.random.Generator(np.random.PCG64([self.seed, variant.code, patient, study, WORDS]))
        held_out = entry.split != "train"
        text = report(rng, drawn.findings, held_out, style=variant.style)
        boxes = [
            _box(phrase(rng, finding, held_out=held_out, style=variant.style), finding, region)
            for finding, region in zip(drawn.findings, drawn.regions, strict=True)
        ]
        present = {finding.name for finding in drawn.findings}
        return Record(
            image=drawn.image,
            report=text,
            view="frontal",
            labels={name: int(name in present) for name in FINDINGS},
            boxes=boxes,
            masks=_masks(drawn),
            extra={
                "findings": [_described(finding) for finding in drawn.findings],
                "tilt": round(drawn.pose.tilt_degrees, 1),
            },
        )

    def _fate(self, patient: int) -> tuple[str, float]:
        """Return a patient's split and a number in [0, 1) that decides how many studies there are."""
        digest = hashlib.sha256(f"phantom {self.variant} {self.seed} {patient}".encode()).digest()
        return SPLIT_OF_BUCKET[digest[0] % len(SPLIT_OF_BUCKET)], int.from_bytes(digest[1:5], "big") / 2**32

    def _entry(self, patient: int, study: int, split: str) -> Entry:
        name = f"{self.variant}-{self.seed}-{patient:06d}"
        key = f"{name}-{study}"
        return Entry(
            name,
            key,
            key,
            f"phantom {self.variant}, seed {self.seed}, patient {patient}, study {study}",
            split,
            (patient, study),
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `msvl data pack phantom`."""
    parser.add_argument("--train", type=int, default=6000, help="training patients (default: %(default)s)")
    parser.add_argument("--val", type=int, default=300, help="validation patients (default: %(default)s)")
    parser.add_argument("--test", type=int, default=600, help="test patients (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other patients (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side in pixels (default: %(default)s)")
    parser.add_argument(
        "--variant", choices=list(VARIANTS), default="standard", help="shifted: another hospital's pictures"
    )


def from_arguments(arguments: argparse.Namespace) -> PhantomSource:
    """Build the source from parsed options. Raises DataError when one is out of its range."""
    names = ("train", "val", "test", "seed", "size", "variant")
    return PhantomSource(**{name: getattr(arguments, name) for name in names})


def _check_options(counts: dict[str, int], *, seed: int, size: int, variant: str, studies_per_patient: float) -> None:
    for name, count in counts.items():
        if not isinstance(count, int) or count < 0:
            raise DataError(f"the phantom's option {name} is {count!r}: give a number of patients, 0 or more")
    if not sum(counts.values()):
        raise DataError("the phantom has no patients at all: give at least one of train, val and test")
    if not isinstance(seed, int) or seed < 0:
        raise DataError(f"the phantom's option seed is {seed!r}: give an integer, 0 or more")
    if not isinstance(size, int) or not 64 <= size <= 1024:
        raise DataError(f"the phantom's option size is {size!r}: give a side between 64 and 1024 pixels")
    if variant not in VARIANTS:
        raise DataError(f"the phantom has no variant {variant!r}: choose one of {', '.join(VARIANTS)}")
    if not 1.0 <= studies_per_patient <= 2.0:
        raise DataError(
            f"the phantom's option studies_per_patient is {studies_per_patient!r}: give a number from 1 to 2"
        )


def _box(words: str, finding: Finding, region: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return Box(words, left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1, finding.name)


def _masks(drawn: Phantom) -> dict[str, np.ndarray]:
    masks: dict[str, np.ndarray] = {}
    for finding, region in zip(drawn.findings, drawn.regions, strict=True):
        masks[finding.name] = masks[finding.name] | region if finding.name in masks else region
    return masks | {"lungs": drawn.lungs, "heart": drawn.heart}


def _described(finding: Finding) -> dict[str, Any]:
    values = {
        "name": finding.name,
        "side": finding.side,
        "zone": finding.zone,
        "severity": finding.severity,
        "size_cm": finding.size_cm,
    }
    return {key: value for key, value in values.items() if value}

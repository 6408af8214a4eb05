"""CheXpert v1.0-small, and v1.0 in the batches that it is served in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msvl.data.label_states import CHEXPERT_FINDINGS
from msvl.data.phantom.miniatures.material import MiniatureStudy, write_image, write_table

SMALL, ORIGINAL = "CheXpert-v1.0-small", "chexpertchestxrays-u20210408"
HEADER = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS)
VALID = "CheXpert-v1.0 batch 1 (validate & csv)"
BATCHES = tuple(f"CheXpert-v1.0 batch {number} (train {number - 1})" for number in (2, 3, 4))
SPLITS = {"train": "train", "val": "valid", "test": "test"}


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write the small version whole and the original in batches, whose images lie in other folders than their Path says.

    With the quirks of the original: age 0, sex Unknown, LL on a frontal image, laterals without AP/PA, blank and uncertain
    labels, rows that are not sorted, studies whose view 1 is lateral, a test split whose table names studies and not images.
    """
    rows: dict[str, list[list[object]]] = {"train": [], "valid": []}
    test = []
    for study in studies:
        split = SPLITS[study.split]
        for kind, number in _views(study):
            path = f"{split}/{patient_id(study)}/study{study.study + 1}/view{number}_{kind}.jpg"
            image = study.frontal if kind == "frontal" else study.lateral
            write_image(folder / SMALL / path, image)
            batch = (
                VALID if split == "valid" else BATCHES[study.patient % 3] if split == "train" else "CheXpert-v1.0 test"
            )
            write_image(folder / ORIGINAL / batch / path, image)
            if split != "test":
                rows[split].append([path, *_facts(study, kind), *_cells(study, split)])
        if split == "test":
            test.append([f"CheXpert-v1.0/test/{patient_id(study)}/study{study.study + 1}", *_cells(study, split)])
    for split, own in rows.items():
        own.reverse()
        for place, prefix in ((folder / SMALL, SMALL), (folder / ORIGINAL / VALID, "CheXpert-v1.0")):
            write_table(place / f"{split}.csv", HEADER, [[f"{prefix}/{row[0]}", *row[1:]] for row in own])
    train = [[f"CheXpert-v1.0/{row[0]}", *row[1:]] for row in rows["train"]]
    for name in ("train_cheXbert.csv", "train_visualCheXbert.csv"):
        write_table(folder / ORIGINAL / name, HEADER, train)
    write_table(folder / "test_labels.csv", ("Study", *CHEXPERT_FINDINGS), test)


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    return ["chexpert", "--images", str(folder / SMALL), "--test-labels", str(folder / "test_labels.csv")]


def patient_id(study: MiniatureStudy) -> str:
    """Return the number in the range of the study's split."""
    return f"patient{ {'train': 1, 'val': 64541, 'test': 64741}[study.split] + study.patient:05d}"


def _views(study: MiniatureStudy) -> list[tuple[str, int]]:
    if study.number % 5 == 3:
        return [("lateral", 1), ("frontal", 2)]
    return [("frontal", 1), ("lateral", 2)] if study.number % 2 == 0 else [("frontal", 1)]


def _facts(study: MiniatureStudy, kind: str) -> list[object]:
    sex = "Unknown" if study.number == 2 else {"M": "Male", "F": "Female"}[study.sex]
    side = "" if kind == "lateral" else "LL" if study.number == 4 else ("AP", "PA")[study.number % 2]
    return [sex, 0 if study.number == 6 else study.age, kind.capitalize(), side]


def _cells(study: MiniatureStudy, split: str) -> list[str]:
    """Return the labels; those of valid and test are all 0 or 1, as radiologists gave them."""
    cells = study.chexpert_labels()
    if split == "train":
        return [cells.get(name, "") for name in CHEXPERT_FINDINGS]
    return [cells.get(name, "0.0").replace("-1.0", "1.0") for name in CHEXPERT_FINDINGS]

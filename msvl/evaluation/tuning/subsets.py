"""A share of the training labels: a published list of it where the set was packed with one, else by `msvl data subset`'s rule.

The rule: by patient, stratified by findings, nested, seeded. The published 1 % lists are not inside their 10 % lists, so their curves
mix luck with labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from msvl.data.evaluation_set import EvaluationSet
from msvl.data.split_lists import LISTS
from msvl.data.subset import choose_patients, label_stratum


def label_subset(train: EvaluationSet, ratio: str, seed: int) -> NDArray[np.int64]:
    """Return the ascending rows of `ratio` percent: those on the list `train_RATIO`, else of so many patients, all their images."""
    listed = [row for row, extra in enumerate(train.extras) if f"train_{ratio}" in extra.get(LISTS, ())]
    if listed:
        return np.asarray(listed, dtype=np.int64)
    labels: dict[str, list[dict[str, int | None]]] = {}
    for row, patient in enumerate(train.patients):
        labels.setdefault(patient, []).append({name: int(values[row]) for name, values in train.labels.items()})
    strata = {patient: label_stratum(own) for patient, own in labels.items()}
    chosen = choose_patients(strata, int(ratio) / 100, seed)
    return np.asarray([row for row, patient in enumerate(train.patients) if patient in chosen], dtype=np.int64)

"""What a task of a protocol leaves: figures, and per sample what they are made of, so that two models can be paired.

N samples of a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msvl.config.errors import DataError
from msvl.evaluation.bootstrap import Statistic, auc_statistic, mean_of, mean_statistic
from msvl.evaluation.calibration import Platt
from msvl.evaluation.material import Figures
from msvl.evaluation.metrics import Floats


@dataclass(frozen=True)
class Column:
    """Values per sample whose mean, or whose AUC against labels, is a figure."""

    values: Floats
    """[N]."""
    keys: tuple[str, ...]
    """[N] sample keys; equal keys in two models' columns are the same sample."""
    patients: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    """[N] of 1, 0 and others for an AUC; None for a mean."""

    @property
    def statistic(self) -> Statistic:
        """Return the figure as a function of sample weights."""
        return mean_statistic(self.values) if self.labels is None else auc_statistic(self.labels, self.values)

    def rows(self, kept: NDArray[np.bool_]) -> Column:
        """Return some samples."""
        places = np.flatnonzero(kept)
        return Column(
            values=self.values[places],
            keys=tuple(self.keys[place] for place in places),
            patients=tuple(self.patients[place] for place in places),
            labels=None if self.labels is None else self.labels[places],
        )


Columns = dict[str, Column]
"""'FIGURE' or 'FIGURE/part/...' -> column; a figure is the plain mean over its parts."""


@dataclass(frozen=True)
class Classified:
    """A classifier's scores with what calibrates them."""

    scores: dict[str, Floats]
    """Finding -> [N] on the judged split."""
    platt: dict[str, Platt]
    """Finding -> map to probabilities, fitted on validation labels."""


@dataclass(frozen=True)
class Answer:
    """What a task found."""

    figures: Figures
    columns: Columns = field(default_factory=dict)
    classified: Classified | None = None
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Small arrays that the gallery draws from."""


def parts_of(columns: Mapping[str, Column], figure: str) -> list[str]:
    """Return the names of a figure's columns."""
    return [name for name in columns if name == figure or name.startswith(f"{figure}/")]


def figure_statistic(columns: Mapping[str, Column], figure: str) -> Statistic:
    """Return a figure as a function of sample weights: the mean over its parts. Its parts must share their samples."""
    return mean_of([columns[name].statistic for name in parts_of(columns, figure)])


def figure_names(columns: Mapping[str, Column]) -> list[str]:
    """Return the figures that have columns, in order."""
    return list(dict.fromkeys(name.partition("/")[0] for name in columns))


def save_columns(path: Path, columns: Mapping[str, Mapping[str, Column]]) -> None:
    """Write {task: columns} as one compressed file of plain arrays. Raises DataError when the disk does not take it."""
    arrays: dict[str, NDArray] = {}
    for task, own in columns.items():
        for name, column in own.items():
            stem = f"{task}|{name}|"
            arrays[f"{stem}values"] = column.values
            arrays[f"{stem}keys"] = np.asarray(column.keys, dtype=str)
            arrays[f"{stem}patients"] = np.asarray(column.patients, dtype=str)
            if column.labels is not None:
                arrays[f"{stem}labels"] = column.labels
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror}): free space and start again") from error


def read_columns(path: Path) -> dict[str, Columns]:
    """Return what `save_columns` wrote. Raises DataError when the file is missing or damaged."""
    found: dict[str, Columns] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                task, figure, kind = name.split("|")
                if kind == "values":
                    stem = f"{task}|{figure}|"
                    found.setdefault(task, {})[figure] = Column(
                        values=arrays[name],
                        keys=tuple(arrays[f"{stem}keys"].tolist()),
                        patients=tuple(arrays[f"{stem}patients"].tolist()),
                        labels=arrays[f"{stem}labels"] if f"{stem}labels" in arrays.files else None,
                    )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is missing or damaged: make it with `msvl evaluate MODEL --protocol NAME`") from error
    return found


def classification_columns(
    figure: str, labels: Mapping[str, NDArray[np.int64]], scores: Mapping[str, Floats], keys: Sequence[str],
    patients: Sequence[str], *, suffix: str = "",
) -> Columns:  # fmt: skip
    """Return one AUC column per finding, 'FIGURE/finding' and the suffix."""
    return {
        f"{figure}/{name}{suffix}": Column(values, tuple(keys), tuple(patients), labels[name])
        for name, values in scores.items()
    }

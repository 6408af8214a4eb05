"""Shares of a training split for label-efficiency figures (1, 10, 100 %): by patient, stratified by labels, nested, seeded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msvl.config.errors import DataError
from msvl.data.csv_table import read_rows
from msvl.data.index import SplitIndex
from msvl.data.key_table import COLUMNS
from msvl.data.reader import SampleReader


@dataclass(frozen=True)
class Subset:
    """Samples of a split, in its order."""

    rows: tuple[int, ...]
    """Their numbers in the index."""
    keys: tuple[str, ...]
    patients: int
    """How many they are of."""


def choose_patients(strata: Mapping[str, str], ratio: float, seed: int) -> set[str]:
    """Choose a share of patients.

    In each stratum patients stand in an order that the seed decides, each at place (rank + offset) / size with a random
    offset per stratum; those with the smallest places are taken. So every stratum gives its share to within one patient, rare
    strata are drawn with the same probability as frequent ones, and a smaller ratio gives a subset of what a larger one gives.

    Args:
        strata: Patient -> stratum.
        ratio: In (0, 1].
        seed: Another one gives another choice.

    Returns:
        round(ratio * patients) of them, at least one.

    Raises:
        DataError: the ratio is out of its range.
    """
    if not 0 < ratio <= 1:
        raise DataError(f"--ratio {ratio:g}: give a share above 0 and at most 1, for example 0.01")
    members: dict[str, list[str]] = {}
    for patient, stratum in strata.items():
        members.setdefault(stratum, []).append(patient)
    places: list[tuple[float, str]] = []
    for stratum, patients in members.items():
        offset = _draw(seed, "offset", stratum)
        ordered = sorted(patients, key=lambda patient: (_draw(seed, "order", patient), patient))
        places += [((rank + offset) / len(ordered), patient) for rank, patient in enumerate(ordered)]
    count = max(1, round(ratio * len(places)))
    return {patient for _, patient in sorted(places)[:count]}


def label_stratum(labels: Iterable[Mapping[str, int | None]]) -> str:
    """Return a patient's stratum: the findings that are present in any of their images."""
    return "|".join(sorted({name for own in labels for name, state in own.items() if state == 1}))


def draw_subset(index: SplitIndex, ratio: float, seed: int) -> Subset:
    """Choose a share of a split's patients, stratified by their findings, with all their samples.

    Raises DataError for a ratio out of its range, and for a sample that cannot be read.
    """
    reader = SampleReader(index)
    patients: list[str] = []
    labels: dict[str, list[dict[str, int | None]]] = {}
    for row in range(len(index)):
        try:
            meta = reader.meta(row)
        except ValueError as error:
            raise DataError(
                f"sample {reader.key(row)} of {reader.shard(row)} cannot be read ({error}): see `msvl data verify`"
            ) from error
        patients.append(meta["patient"])
        labels.setdefault(meta["patient"], []).append(meta["labels"])
    reader.close()
    chosen = choose_patients({patient: label_stratum(own) for patient, own in labels.items()}, ratio, seed)
    return _of_rows(index, [row for row, patient in enumerate(patients) if patient in chosen])


def named_subset(index: SplitIndex, names: Path, key_table: Path | None) -> Subset:
    """Return the samples that a list names, one a line: by key, study or patient, or by source ids with a key table.

    Raises:
        DataError: a name is not in the split; the first ones are told.
    """
    wanted = sorted(_wanted(names))
    known = _source_names(key_table) if key_table else {}
    hashes = {key for name in wanted for key in known.get(name, (name,))}
    found: set[str] = set()
    rows: list[int] = []
    for row, names_of_row in enumerate(_names_of_rows(index)):
        own = hashes.intersection(names_of_row)
        found |= own
        if own:
            rows.append(row)
    missing = [name for name in wanted if not found.intersection(known.get(name, (name,)))]
    if missing:
        cure = "" if key_table else "; source ids need --key-table, which `msvl data pack --key-table` wrote"
        raise DataError(f"{names}: {len(missing):,} of {len(wanted):,} names are not in split {index.split}{cure}")
    return _of_rows(index, rows)


def subset_rows(index: SplitIndex, path: str | Path) -> np.ndarray:
    """Return the [n] ascending rows of a split that a list of `write_subset` names: by key, study or patient.

    Raises:
        DataError: The list cannot be read, or names what is not in the split.
    """
    names = sorted(_wanted(Path(path)))
    records = index.records
    columns = [records["key"], records["study"], records["patient"]]
    hits = np.zeros(len(index), dtype=bool)
    found = np.zeros(len(names), dtype=bool)
    for column in columns:
        own = np.array([_as_stored(name, column.dtype) for name in names], dtype=column.dtype)
        hits |= np.isin(column, own)
        found |= np.isin(own, column) & np.array([_fits(name, column.dtype) for name in names])
    if not found.all():
        raise DataError(
            f"{path}: {np.count_nonzero(~found):,} of {len(names):,} names are not in split {index.split} of {index.root}: it was "
            "made for another set or split, or samples were forgotten since; make it again with `msvl data subset`"
        )
    return np.flatnonzero(hits)


def subset_digest(path: str | Path) -> str:
    """Return the SHA-256 of the names of a list, whatever their order. Raises DataError."""
    return hashlib.sha256("\n".join(sorted(_wanted(Path(path)))).encode()).hexdigest()


def _wanted(path: Path) -> set[str]:
    names = {line.strip() for line in _lines(path) if line.strip() and not line.startswith("#")}
    if not names:
        raise DataError(f"{path} names nothing: write one key, study or patient per line")
    return names


def _fits(name: str, kind: np.dtype) -> bool:
    if kind.kind == "S":
        return len(name.encode()) <= kind.itemsize
    return len(name) == 16 and all(character in "0123456789abcdef" for character in name)


def _as_stored(name: str, kind: np.dtype) -> bytes | int:
    """Return a name as a column of the index has it; of one that does not fit anything."""
    if kind.kind == "S":
        return name.encode()
    return int(name, 16) if _fits(name, kind) else 0


def write_subset(path: Path, subset: Subset, comment: str) -> None:
    """Write the keys, one a line, under a comment that says how they were chosen. Raises DataError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {comment}\n" + "".join(f"{key}\n" for key in subset.keys), encoding="utf-8")
    except OSError as error:
        raise DataError(f"--out {path} cannot be written ({error.strerror}): name another place") from error


def _names_of_rows(index: SplitIndex) -> Iterator[tuple[str, ...]]:
    """Yield key, study and patient of every sample."""
    reader = SampleReader(index)
    studies, patients = index.records["study"].tolist(), index.records["patient"].tolist()
    for row in range(len(index)):
        yield reader.key(row), f"{studies[row]:016x}", f"{patients[row]:016x}"
    reader.close()


def _of_rows(index: SplitIndex, rows: Sequence[int]) -> Subset:
    reader = SampleReader(index)
    keys = tuple(reader.key(row) for row in rows)
    reader.close()
    return Subset(tuple(rows), keys, patients=len(np.unique(index.records["patient"][list(rows)])))


def _source_names(key_table: Path) -> dict[str, set[str]]:
    """Return source image, study or patient -> keys of its samples."""
    names: dict[str, set[str]] = {}
    for _, row in read_rows(key_table, COLUMNS):
        for column in ("source_image", "source_study", "source_patient"):
            names.setdefault(row[column], set()).add(row["key"])
    return names


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): give a text file with one name per line") from error


def _draw(seed: int, purpose: str, name: str) -> float:
    """Return a number in [0, 1)."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

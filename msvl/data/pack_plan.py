"""What is packed into which shard, before anything is read: splits by patient, keys, units of whole studies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from msvl.config.errors import DataError
from msvl.data.identity import keyed_hash
from msvl.data.pack_options import PackOptions
from msvl.data.pack_record import Job
from msvl.data.packed import SPLITS
from msvl.data.study import Source


@dataclass(frozen=True)
class Unit:
    """Jobs that make one shard (or more, where their bytes are too many): whole studies of one split."""

    split: str
    number: int
    """In its split."""
    jobs: tuple[Job, ...]


def plan(source: Source, options: PackOptions) -> list[Unit]:
    """List what to pack: in each split, studies in the order of a hash, which mixes them over the shards.

    A pure function of the source's listing and the options: records that turn out bad make their shard smaller and move
    nothing else.

    Raises DataError for a patient in two splits and a source without records.
    """
    jobs = _jobs(source, options)
    units: list[Unit] = []
    for split in SPLITS:
        studies = _studies(job for job in jobs if job.split == split)
        for number, unit in enumerate(_filled(studies, options.shard_samples)):
            units.append(Unit(split, number, tuple(unit)))
    return units


def plan_digest(units: Sequence[Unit]) -> str:
    """Return a hash of everything that was listed: a changed table gives another."""
    digest = hashlib.sha256()
    for unit in units:
        for job in unit.jobs:
            digest.update(repr(job).encode())
    return digest.hexdigest()


def _jobs(source: Source, options: PackOptions) -> list[Job]:
    secret = options.id_key or source.name
    jobs: list[Job] = []
    seen: set[str] = set()
    splits: dict[str, str] = {}
    for entry in source.entries():
        patient = keyed_hash(f"patient/{entry.patient}", secret)
        split = entry.split or _split_of(patient, options)
        if splits.setdefault(patient, split) != split:
            raise DataError(
                f"{entry.where}: its patient is in both {splits[patient]} and {split}: mend the split column"
            )
        key = keyed_hash(f"image/{entry.study}/{entry.image}", secret)
        study = keyed_hash(f"study/{entry.patient}/{entry.study}", secret)
        jobs.append(Job(entry, key, split, patient, study, listed_before=key in seen))
        seen.add(key)
    if not jobs:
        raise DataError(f"the source {source.name} has no records")
    return jobs


def _split_of(patient: str, options: PackOptions) -> str:
    place = int(patient, 16) / 16**16
    if place < options.test_share:
        return "test"
    return "val" if place < options.test_share + options.val_share else "train"


def _studies(jobs: Iterable[Job]) -> list[list[Job]]:
    """Group by study, ordered by the smallest key in each."""
    by_study = groupby(sorted(jobs, key=lambda job: (job.study, job.key)), key=lambda job: job.study)
    return sorted((list(group) for _, group in by_study), key=lambda group: group[0].key)


def _filled(studies: list[list[Job]], limit: int) -> Iterable[list[Job]]:
    """Cut into units of at most `limit` samples; a larger study is a unit of its own."""
    unit: list[Job] = []
    for study in studies:
        if unit and len(unit) + len(study) > limit:
            yield unit
            unit = []
        unit += study
    if unit:
        yield unit

"""What is packed into which shard, before anything is read: splits by patient, keys, units of whole studies."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from msvl.config.errors import DataError
from msvl.data.identity import keyed_hash
from msvl.data.pack_options import PackOptions
from msvl.data.pack_record import Job
from msvl.data.packed import SPLITS
from msvl.data.study import Entry, Source

logger = logging.getLogger(__name__)


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

    Raises DataError for a patient in two splits, a source without records, and options that ask for reports where there are none.
    """
    _check_reports(source, options)
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


def _check_reports(source: Source, options: PackOptions) -> None:
    if options.reports_from_labels and source.has_reports:
        raise DataError(f"--reports-from-labels: the source {source.name} has reports of its own; leave the option out")
    if options.tokenizer_vocabulary and not (source.has_reports or options.reports_from_labels):
        raise DataError(
            f"--train-tokenizer: the source {source.name} has no reports; leave the option out, or add --reports-from-labels"
        )


def _jobs(source: Source, options: PackOptions) -> list[Job]:
    secret = options.id_key or source.id_space
    jobs: list[Job] = []
    seen: set[tuple[str, str]] = set()
    splits: dict[str, str] = {}
    shared: set[str] = set()
    entries = source.entries()
    places = _places_in_time(entries)
    for entry in entries:
        patient = keyed_hash(f"patient/{entry.patient}", secret)
        split = entry.split or _split_of(patient, options)
        if splits.setdefault(patient, split) != split:
            if not options.as_published:
                raise DataError(
                    f"{entry.where}: its patient is in both {splits[patient]} and {split}: mend the split column or list"
                )
            shared.add(patient)
        key = keyed_hash(f"image/{entry.study}/{entry.image}", secret)
        # A table may give one image to two patients: the second would take it into another split.
        once = (split if options.as_published else "", key)
        study = keyed_hash(f"study/{entry.patient}/{entry.study}", secret)
        rank, before = places.get((entry.patient, entry.study), (None, None))
        prior = keyed_hash(f"study/{entry.patient}/{before}", secret) if before is not None else None
        jobs.append(Job(entry, key, split, patient, study, listed_before=once in seen, study_rank=rank, prior=prior))
        seen.add(once)
    if not jobs:
        raise DataError(f"the source {source.name} has no records")
    if shared:
        logger.warning(
            "%s: %d patients are in two splits, kept as published: figures are too good by what that gives",
            source.name, len(shared),
        )  # fmt: skip
    return jobs


def _places_in_time(entries: Sequence[Entry]) -> dict[tuple[str, str], tuple[int, str | None]]:
    """Return (patient, study) -> the study's rank in time and the study before, of all studies whose order is known."""
    studies: dict[str, dict[str, float]] = {}
    for entry in entries:
        if entry.order is not None:
            order = studies.setdefault(entry.patient, {})
            order[entry.study] = min(entry.order, order.get(entry.study, entry.order))
    places: dict[tuple[str, str], tuple[int, str | None]] = {}
    for patient, order in studies.items():
        before = None
        for rank, study in enumerate(sorted(order, key=lambda name: (order[name], name))):
            places[patient, study] = rank, before
            before = study
    return places


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

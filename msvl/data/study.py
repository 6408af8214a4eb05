"""What a source yields: entries (cheap, listed first) and records (an image with its report and annotations)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Box:
    """A phrase and where it is: pixel coordinates of the record's own image, origin top left, x to the right.

    `finding` is the label that the phrase describes (empty when unknown).
    """

    phrase: str
    x: float
    y: float
    w: float
    h: float
    finding: str = ""


@dataclass(frozen=True)
class Entry:
    """One image of a source before anything heavy is read: enough to split by patient and to name in a message."""

    patient: str
    study: str
    image: str
    where: str
    """Where the user finds it: file and row, never report text."""
    split: str | None = None
    """train, val or test where the source has its own split, else None."""
    payload: Any = None
    """What `Source.record` needs to read it (picklable)."""
    order: float | None = None
    """Sorts the studies of a patient in time (a date, a follow-up number), where that is known. The packer keeps the rank and
    the study before, never the value itself."""
    view: str = ""
    """What the listing says of the view, the labels (as in `Record`) and the patient: counted before packing begins."""
    labels: dict[str, int | None] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One radiograph with its report, as a source delivers it to the packer."""

    image: np.ndarray
    """[H, W] uint8 or uint16, grey, upright, bright = dense; may be smaller than the source's, see `full_size`."""
    report: str = ""
    """Raw report text with its headings; empty in a source without reports."""
    view: str = "unknown"
    labels: dict[str, int | None] = field(default_factory=dict)
    """Finding -> 1 present, 0 absent, -1 uncertain, None unknown."""
    boxes: list[Box] = field(default_factory=list)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    """Finding or structure -> [H, W] bool."""
    full_size: tuple[int, int] | None = None
    """(height, width) whose pixels boxes are in, where `image` was decoded at a reduced size; None: those of `image`."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Small JSON values to keep with the sample: `sex` (M or F) and `age` (years) where the source has them, and what is its
    own. The packer adds `study_rank` (from 0, in time) and `prior` (the study before, or None) where entries have an `order`."""


class Source(Protocol):
    """A data set: a cheap listing, and the heavy reading of one entry, which runs in worker processes."""

    name: str
    licence: str
    shareable: bool
    """Whether texts and images may leave the run folder (true for the phantom only)."""
    has_reports: bool
    """Whether its records have reports. One that says so and yields none is dropped."""
    id_space: str
    """Whose patient, study and image ids these are: sets cut from one collection share it, and so the hashes of its ids."""
    mask_names: tuple[str, ...]
    """Masks that records may have, in the order of their bits in the packed mask image (at most 16)."""
    prompts: dict[str, dict[str, list[str]]]
    """Finding -> {"positive": [...], "negative": [...]} for zero-shot judgement; may be empty."""

    def settings(self) -> dict[str, Any]:
        """Return the options that made this source, for the manifest (JSON)."""

    def entries(self) -> list[Entry]:
        """List every image. Raises DataError when the source itself cannot be read."""

    def record(self, entry: Entry) -> Record:
        """Read one entry. Raises DataError naming `entry.where` when the record is bad."""

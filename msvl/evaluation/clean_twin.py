"""Beside a card with known faults: its clean twin, judged on what two splits do not share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from msvl.data.evaluation_set import EvaluationSet
from msvl.evaluation.answers import Answer
from msvl.evaluation.exam import Exam, Splits
from msvl.evaluation.protocol import Card, read_protocol

LEARNS = frozenset({"fine_tuned", "linear_probe", "segmentation"})
"""Tasks that learn from the training split, so that a patient in two splits flatters them."""


@dataclass(frozen=True)
class Apart:
    """Splits that share no patient, and what was taken out for it."""

    splits: Splits
    from_train: int
    """Images."""
    from_val: int
    """Images."""


def take_apart(splits: Splits) -> Apart:
    """Return the splits without what a later one has too: the judged images stay, val loses their patients, train those of both."""
    test, val = set(splits.test.patients), set(splits.val.patients)
    kept_val = [row for row, patient in enumerate(splits.val.patients) if patient not in test]
    kept_train = [row for row, patient in enumerate(splits.train.patients) if patient not in test | val]
    return Apart(
        Splits(_rows(splits.train, kept_train), _rows(splits.val, kept_val), splits.test),
        from_train=len(splits.train) - len(kept_train),
        from_val=len(splits.val) - len(kept_val),
    )


def _rows(own: EvaluationSet, kept: Sequence[int]) -> EvaluationSet:
    if len(kept) == len(own):
        return own
    lists = {
        item.name: [getattr(own, item.name)[row] for row in kept]
        for item in fields(own)
        if item.name not in ("images", "labels")
    }
    labels = {name: values[list(kept)] for name, values in own.labels.items()}
    return replace(own, images=own.images[list(kept)], labels=labels, **lists)


def judge_twin(
    card: Card, exam: Exam, *, twin: str, run: Callable[[Exam, Card], Answer]
) -> dict[str, Any]:  # fmt: skip
    """Collective. Judge the twin of a card with known faults, or say why it cannot be judged on this packed set.

    Args:
        card: As published.
        exam: On the packed set as it is.
        twin: Protocol whose card it is.
        run: Judges an exam by a card.

    Returns:
        card, digest, splits and figures; or card and left_out, the reason.
    """
    clean = read_protocol(twin).card(card.task, exam.packed.name)
    if clean is None:
        return {"card": f"{twin}/{card.task}", "left_out": f"protocol {twin} has no card for it"}
    found: dict[str, Any] = {"card": f"{twin}/{clean.task}/{clean.data}", "digest": clean.digest}
    wanted, own = (item.splits.get("test") for item in (clean, card))
    if wanted is not None and (own is None or wanted.sha256 != own.sha256):
        reason = (
            f"it judges other images ({wanted.origin}): pack the set by its lists and judge it by --protocol {twin}"
        )
        return found | {"left_out": reason}
    apart = take_apart(exam.splits)
    if card.task in LEARNS and not (apart.from_train or apart.from_val):
        return found | {"left_out": "no patient of this packed set is in two splits, so there is nothing to leave out"}
    answer = run(exam.with_splits(apart.splits), clean)
    splits = (
        f"the packed set's without {apart.from_train:,} images of train and {apart.from_val:,} of val whose patients a later split has"
    )  # fmt: skip
    return found | {"splits": splits, "figures": answer.figures}

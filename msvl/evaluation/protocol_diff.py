"""Why two protocols give different figures for the same model, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msvl.evaluation.protocol import Card, Protocol

WHY = {
    "splits.test": "other images are judged, so the two figures are about different things",
    "splits.val": "the model or the threshold is chosen on other images",
    "splits.train": "it learns from other images",
    "findings": "the mean is over other findings",
    "names": "the same finding is asked for in other words",
    "lr_factors": "a learning rate chosen on val suits every encoder, one taken over from another method does not",
    "uncertain": "images with an uncertain label change sides",
    "blank": "findings that a report does not mention count in one and not in the other",
    "labels": "the same image may be positive in one and negative in the other",
    "headline": "the quoted figures are not the same quantity",
    "selection": "another one of several trained models is kept",
    "seeds": "the mean of several trainings is steadier than one",
    "schedules": "longer or faster training moves the figure without a better encoder",
    "prompts": "other wordings move the AUC by several points",
    "ensemble": "the largest of many prompts favours classes with many prompts",
    "threshold_split": "a threshold from the judged labels flatters F1 and accuracy",
    "threshold": "F1 and accuracy belong to another operating point",
    "resolution": "what is cut off or squashed counts in one and not in the other",
    "stretched": "mIoU of stretched maps looks at the shape alone, mIoU of cosines also at their height",
    "sigma": "smoother maps have higher contrast",
    "average": "rare categories weigh as much as common ones in one of them",
    "fold": "smaller galleries give higher recall",
    "head": "a stronger head finds what the encoder does not show",
    "channels": "a stronger head finds what the encoder does not show",
    "freeze": "with frozen weights the encoder alone is judged",
    "size": "finer images show smaller lesions",
    "focal": "the loss weighs small masks differently",
    "dice": "the loss weighs small masks differently",
    "cross_entropy": "the loss weighs small masks differently",
    "head_norm": "it is one of three switches that together moved ConVIRT from 71.7 to 77.0 in BenchX",
    "backbone_lr_share": "it is one of three switches that together moved ConVIRT from 71.7 to 77.0 in BenchX",
    "head_std": "it is one of three switches that together moved ConVIRT from 71.7 to 77.0 in BenchX",
    "pooling": "another feature of the encoder is judged",
    "kind": "the classifier stops at its optimum or before it",
    "ratios": "other shares of the labels are judged",
    "optimizer": "the encoder moves otherwise from where pretraining left it",
    "momentum": "the encoder moves otherwise from where pretraining left it",
    "weight_decay": "the encoder moves otherwise from where pretraining left it",
    "layer_decay": "lower blocks keep more or less of their pretraining",
    "drop_path": "training is held back more or less, which few labels feel most",
    "batch": "the same number of steps sees another number of images",
    "crop": "training images vary more or less, which few labels feel most",
    "flip": "training images vary more or less, which few labels feel most",
    "clip": "single steps can be larger in one of them",
    "judged": "the best of more or fewer looks at val is kept",
    "auxiliary": "the lower blocks are taught more or less directly",
    "prior": "small masks are found after fewer steps in one of them",
}
"""Name of a field (its last part, or 'splits.SPLIT') -> what a difference there does."""

DICE = {
    "dice_image": "Dice per image, where a healthy image scores 1 when nothing is predicted: dominated by healthy images",
    "dice_batched": "the mean over batches of the Dice per image",
    "dice_pooled": "Dice of pooled pixels, background included, which is nearly 1 by itself",
    "dice_positive": "Dice of images with a lesion alone",
}
"""What a headline of segmentation means."""


@dataclass(frozen=True)
class Difference:
    """One sentence on one field."""

    field: str
    text: str


def diff_protocols(first: Protocol, second: Protocol) -> dict[str, list[Difference]]:
    """Return the differences per task and data set that either has a card of its own for; equal ones are left out."""
    places = dict.fromkeys((card.task, card.data) for protocol in (first, second) for card in protocol.cards)
    found: dict[str, list[Difference]] = {}
    for task, data in places:
        cards = first.card(task, data), second.card(task, data)
        lines = list(_differences((first.name, second.name), cards))
        if lines:
            found[f"{task}, {'any other data' if data == 'any' else data}"] = lines
    return found


def _differences(names: tuple[str, str], cards: tuple[Card | None, Card | None]) -> Iterator[Difference]:
    one, other = cards
    if one is None or other is None:
        without = names[0] if one is None else names[1]
        yield Difference("card", f"{without} has no card for it")
        return
    if one.data != other.data:
        for name, card in zip(names, cards, strict=True):
            if card is not None and card.data == "any":
                yield Difference(
                    "card", f"{name} has no card of its own for this data set: its rules for any data apply"
                )
    facts = [_flat(card.model_dump(mode="json", exclude={"deviations", "sources", "leaks", "data"})) for card in (one, other)]  # fmt: skip
    for field in dict.fromkeys((*facts[0], *facts[1])):
        left, right = (fact.get(field) for fact in facts)
        if left != right and not _same_list(left, right):
            yield Difference(field, _sentence(names, field, left, right))
    for name, card in zip(names, (one, other), strict=True):
        yield from (Difference("leaks", f"{name} is known to be leaky or skewed: {leak}") for leak in card.leaks)


def _same_list(left: Any, right: Any) -> bool:
    """Return whether two repositories ship the same bytes."""
    digests = {value.get("sha256") if isinstance(value, dict) else None for value in (left, right)}
    return len(digests) == 1 and None not in digests


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return leaves by path; lists of images and schedules count as one leaf each."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and not {"origin", "steps"} & set(value):
            leaves |= _flat(value, f"{path}.")
        elif value is not None:
            leaves[path] = value
    return leaves


def _sentence(names: tuple[str, str], field: str, left: Any, right: Any) -> str:
    said = "; ".join(f"{name}: {_words(field, value)}" for name, value in zip(names, (left, right), strict=True))
    why = next((WHY[key] for key in _keys(field) if key in WHY), "")
    return f"{_title(field)}: {said}" + (f". So {why}" if why else "") + "."


def _keys(field: str) -> tuple[str, ...]:
    parts = field.split(".")
    if parts[0] == "splits":
        return (f"splits.{parts[1].partition('_')[0]}",)
    return (*parts[::-1],)


def _title(field: str) -> str:
    parts = field.split(".")
    if parts[0] == "splits":
        return f"images of {parts[1].replace('_', ' at ')}" + (" %" if "_" in parts[1] else "")
    if "schedules" in parts:
        return f"schedule at {parts[-1]} % of the labels"
    return parts[-1].replace("_", " ")


def _words(field: str, value: Any) -> str:
    if value is None:
        return "the packed set's own" if field.startswith("splits.") else "not said"
    if isinstance(value, dict) and "origin" in value:
        count = f"{value['images']:,} images, " if value.get("images") else ""
        digest = f", list {value['sha256'][:12]}" if value.get("sha256") else ""
        return f"{count}{value['origin']}{digest}"
    if isinstance(value, dict):
        return f"{value['steps']:,} steps, peak learning rate {value['lr']:g}, warm-up {value['warmup']:,}"
    if field == "headline" and value in DICE:
        return f"{value} ({DICE[value]})"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "all of the packed set"
    return {True: "yes", False: "no", "": "not said"}.get(value, str(value)) if isinstance(value, bool | str) else str(value)  # fmt: skip

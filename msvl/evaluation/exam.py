"""What the tasks of a protocol share: the model, the three splits, their features, read from the cache or computed.

N images of a split, C shared channels, F feature channels, P phrase-image pairs.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msvl.data.evaluation_set import EvaluationSet
from msvl.data.packed import PackedSet
from msvl.data.study import Box
from msvl.data.uncertainty import Policy, blank_as_absent, resolve_all
from msvl.evaluation.encoders import PhrasePairs, Tokenises, encode_images, encode_prompts, encode_reports
from msvl.evaluation.findings import chosen_findings, judgeable
from msvl.evaluation.judge import phrase_pairs
from msvl.evaluation.material import Pair
from msvl.evaluation.units import Unit, UnitStore
from msvl.models.msvl_model import MSVLModel

BLOCK = 256
"""Images per unit of the feature cache: it decides who computes what, never what is computed."""


Region = tuple[float, float, float, float]
"""x, y, w, h."""


@dataclass(frozen=True)
class Features:
    """One pass of the image encoder over a split."""

    image: Tensor
    """[N, C] unit length."""
    pooled: Tensor
    """[N, F] before the projection."""
    best_patch: Tensor
    """[N, K] largest patch cosine with each of K vectors that were asked for."""
    pair_maps: Tensor
    """[P, rows, columns]."""


@dataclass(frozen=True)
class Splits:
    """The three splits that a protocol needs; training studies are listed here and read image by image."""

    train: EvaluationSet
    val: EvaluationSet
    test: EvaluationSet


class Exam:
    """A model before the tasks of a protocol."""

    def __init__(
        self,
        model: MSVLModel,
        tokeniser: Tokenises | None,
        packed: PackedSet,
        splits: Splits,
        *,
        cache: Path,
        model_digest: str,
        batch_size: int,
        say: Callable[[str], None],
    ) -> None:
        """Remember what there is; nothing is computed before a task asks.

        Args:
            model: In evaluation mode.
            tokeniser: The model's; None of an image encoder alone.
            packed: The set that is judged.
            splits: Its splits.
            cache: Folder of all evaluations' units.
            model_digest: SHA-256 of the weights.
            batch_size: Images per forward pass.
            say: Tells a person how far it is.
        """
        self.model, self.packed, self.splits = model, packed, splits
        self._tokeniser = tokeniser
        self.batch_size, self.say = batch_size, say
        self._cache = cache
        self._identity = {"model": model_digest, "data": packed.fingerprint, "samples": _samples(splits)}

    def store(self, **more: Any) -> UnitStore:
        """Return the store of what depends on model, data and `more` (a card's digest, or what features are asked for)."""
        content = json.dumps(self._identity | more, sort_keys=True)
        return UnitStore(self._cache / hashlib.sha256(content.encode()).hexdigest()[:20])

    @property
    def reads_text(self) -> bool:
        """Return whether there is a text encoder."""
        return self._tokeniser is not None

    @property
    def places_text(self) -> bool:
        """Return whether patches and texts meet in one space, which some foreign checkpoints lack."""
        return self.reads_text and getattr(self.model, "places_text", True)

    @property
    def tokeniser(self) -> Tokenises:
        """Return the tokenizer of a model that reads text."""
        assert self._tokeniser is not None
        return self._tokeniser

    def with_labels(self, uncertain: Policy, blank: str, findings: Sequence[str] = ()) -> Exam:
        """Return the same exam with the findings that a card counts, uncertain and unmentioned ones as what it takes them for."""

        def resolved(own: EvaluationSet) -> EvaluationSet:
            kept = chosen_findings(own.labels, findings)
            labels = resolve_all({name: own.labels[name] for name in kept}, uncertain)
            if blank == "absent":
                labels = {name: blank_as_absent(states) for name, states in labels.items()}
            return replace(own, labels=labels)

        other = copy.copy(self)
        other.splits = Splits(*(resolved(own) for own in (self.splits.train, self.splits.val, self.splits.test)))
        return other

    def with_splits(self, splits: Splits) -> Exam:
        """Return an exam of the same model on other splits of the same packed set, with its own place in the cache."""
        other = copy.copy(self)
        other.splits = splits
        other._identity = self._identity | {"samples": _samples(splits)}
        return other

    @property
    def findings(self) -> list[str]:
        """Return the findings that have both classes in val and test, in order of their names."""
        return [name for name in judgeable(self.splits.test.labels) if name in judgeable(self.splits.val.labels)]

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Phrases of the judged split with their boxes in pixels of the stored image."""
        return phrase_pairs(self.splits.test.stored_boxes)

    def square_pairs(self) -> tuple[Pair, ...]:
        """Return the same pairs with their boxes in pixels of the model's square; a box outside is left out."""
        inside: dict[tuple[int, str], list[Region]] = {(pair.row, pair.phrase): [] for pair in self.pairs}
        for row, own in enumerate(self.splits.test.boxes):
            for box in own:
                inside[row, box.phrase].append(_region(box))
        return tuple(Pair(pair.row, pair.phrase, pair.finding, tuple(inside[pair.row, pair.phrase])) for pair in self.pairs)  # fmt: skip

    def features(
        self, split: str, *, prompts: Tensor | None = None, prompts_digest: str = "", pairs: bool = False
    ) -> Features:
        """Collective. Encode a split's images, or read them from the cache.

        Args:
            split: train, val or test.
            prompts: [K, C] unit length, for `best_patch`.
            prompts_digest: Of their texts and of how they were put together.
            pairs: Also make the maps of `pairs` (split test).
        """
        images = getattr(self.splits, split).images
        vectors = self._phrases() if pairs else None
        phrases = [(pair.row, pair.phrase) for pair in self.pairs] if pairs else []
        store = self.store(split=split, prompts=prompts_digest, phrases=phrases)
        starts = range(0, len(images), BLOCK)

        def block(start: int) -> Callable[[], Unit]:
            return lambda: self._block(images, start, prompts, vectors)

        found = store.run({f"features-{start:08d}": block(start) for start in starts})
        if store.computed:
            self.say(f"encoded {len(images):,} images of {split}")
        names = ("image", "pooled", "best_patch", "pair_maps")
        return Features(*(torch.from_numpy(np.concatenate([unit[name] for unit in found.values()])) for name in names))

    def reports(self) -> Tensor:
        """Collective. Encode the judged split's reports: [N, C] unit length."""
        sentences = self.splits.test.sentences

        def block(start: int) -> Callable[[], Unit]:
            rows = sentences[start : start + BLOCK]
            return lambda: {
                "text": encode_reports(self.model, self.tokeniser, rows, batch_size=self.batch_size).numpy()
            }

        starts = range(0, len(sentences), BLOCK)
        found = self.store(split="test").run({f"reports-{start:08d}": block(start) for start in starts})
        return torch.from_numpy(np.concatenate([unit["text"] for unit in found.values()]))

    def _phrases(self) -> Tensor | None:
        """Return the sentence embedding of each pair's phrase [P, C]; None without pairs."""
        if not self.pairs:
            return None
        distinct = sorted({pair.phrase for pair in self.pairs})
        place = {phrase: number for number, phrase in enumerate(distinct)}
        vectors = encode_prompts(self.model, self.tokeniser, distinct, batch_size=self.batch_size).sentence
        return vectors[[place[pair.phrase] for pair in self.pairs]]

    def _block(self, images: Tensor, start: int, prompts: Tensor | None, vectors: Tensor | None) -> Unit:
        end = start + BLOCK
        own = None
        if vectors is not None:
            here = [number for number, pair in enumerate(self.pairs) if start <= pair.row < end]
            own = PhrasePairs(torch.tensor([self.pairs[n].row - start for n in here], dtype=torch.int64), vectors[here])
        encoded = encode_images(
            self.model, images[start:end], batch_size=self.batch_size, prompts=prompts, pairs=own, progress=False
        )
        return {
            "image": encoded.image.numpy(),
            "pooled": encoded.features.numpy(),
            "best_patch": encoded.prompt_scores.numpy(),
            "pair_maps": encoded.pair_maps.numpy(),
        }


def _samples(splits: Splits) -> list[str]:
    """Return a digest per split of which samples it has, not how many: another --limit is another exam."""
    return [hashlib.sha256("".join(getattr(splits, name).keys).encode()).hexdigest() for name in ("train", "val", "test")]  # fmt: skip


def _region(box: Box) -> Region:
    return box.x, box.y, box.w, box.h

"""A world small enough to know every answer: one bright patch per image, a model that sees it, 25 words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional

from msvl.data.batch import Tokens
from msvl.data.study import Box
from msvl.models.outputs import ImageEmbeddings, TextEmbeddings

GRID, PATCH = 4, 8
PLACES = GRID * GRID
WORDS = ["[CLS]", "no", "spot", "there", "is", "a", "at", "lungs", "clear", *(f"p{place}" for place in range(PLACES))]
BRIGHT = PLACES
"""Channel of brightness; channels 0 ... 15 are the places, the last one is darkness."""
CHANNELS = PLACES + 2


class ToyTokeniser:
    """Words to numbers, one sentence after the other."""

    def encode(self, reports: Sequence[Sequence[str]]) -> Tokens:
        """Tokenise with 24 token and 4 sentence places."""
        ids = torch.zeros(len(reports), 24, dtype=torch.int64)
        attention, index = torch.zeros_like(ids), torch.full_like(ids, -1)
        mask = torch.zeros(len(reports), 4, dtype=torch.bool)
        for row, sentences in enumerate(reports):
            attention[row, 0] = 1
            at = 1
            for place, sentence in enumerate(sentences):
                mask[row, place] = True
                for word in sentence.lower().rstrip(".").split():
                    ids[row, at], attention[row, at], index[row, at] = WORDS.index(word), 1, place
                    at += 1
        return Tokens(ids, attention, index, mask)

    def encode_prompts(self, prompts: Sequence[str]) -> Tokens:
        """Tokenise prompts as reports of one sentence."""
        return self.encode([[prompt] for prompt in prompts])


class ToyModel(nn.Module):
    """Sees the bright patch and understands 'no'; with `blind` it sees and reads nothing at all."""

    def __init__(self, *, blind: bool = False) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.blind = blind
        self.modes: list[bool] = []

    def encode_image(self, images: Tensor) -> ImageEmbeddings:
        """Patch embedding: one-hot place times brightness, brightness, darkness."""
        self.modes.append(self.training)
        grey = reduce(images.float() / 255, "b 1 (r p) (c q) -> b (r c)", "mean", p=PATCH, q=PATCH)
        if self.blind:
            grey = grey * 0
        patches = torch.cat([torch.diag_embed(grey), grey[..., None], 1 - grey[..., None]], dim=-1)
        pooled = patches.amax(dim=1) - functional.one_hot(torch.tensor(CHANNELS - 1), CHANNELS) * grey.amax(1)[:, None]
        return ImageEmbeddings(functional.normalize(pooled, dim=-1), 3 * patches, (GRID, GRID), pooled)

    def encode_text(self, tokens: Tokens) -> TextEmbeddings:
        """Sentence embedding: places named, and brightness or darkness."""
        sentences = torch.zeros(*tokens.sentence_mask.shape, CHANNELS)
        for row, place in tokens.sentence_mask.nonzero().tolist():
            words = [WORDS[i] for i in tokens.input_ids[row][tokens.sentence_index[row] == place].tolist()]
            sentences[row, place, CHANNELS - 1 if "no" in words or "clear" in words else BRIGHT] = 1
            for word in words:
                if word[1:].isdigit():
                    sentences[row, place, int(word[1:])] = 1
        if self.blind:
            sentences = torch.ones_like(sentences)
        whole = functional.normalize(sentences.sum(dim=1), dim=-1)
        return TextEmbeddings(whole, sentences, tokens.sentence_mask)


@dataclass
class ToySet:
    """The part of EvaluationSet that judgement reads; image i has its spot at place i mod 16, every third has none."""

    images: Tensor
    sentences: list[list[str]]
    labels: dict[str, np.ndarray]
    boxes: list[list[Box]]
    patients: list[str]
    studies: list[str]
    text_hashes: list[str]
    keys: list[str] = field(default_factory=list)


def toy_set(count: int = 48, *, prefix: str = "p", noise: float = 0.0) -> ToySet:
    """Make `count` images of `count` patients."""
    generator = np.random.default_rng(0)
    cells = np.zeros((count, PLACES))
    present = np.arange(count) % 3 != 0
    cells[np.flatnonzero(present), np.arange(count)[present] % PLACES] = 1.0
    cells = np.clip(cells + noise * generator.random(cells.shape), 0, 1)
    images = rearrange(torch.tensor(cells * 255).to(torch.uint8), "n (r c) -> n 1 r c", r=GRID)
    sentences = [[f"There is a spot at p{i % PLACES}."] if has else ["No spot."] for i, has in enumerate(present)]
    sides = [(i % PLACES % GRID * PATCH, i % PLACES // GRID * PATCH) for i in range(count)]
    return ToySet(
        images=images.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3),
        sentences=sentences,
        labels={"spot": present.astype(np.int64)},
        boxes=[[Box(sentences[i][0], *sides[i], PATCH, PATCH, "spot")] if present[i] else [] for i in range(count)],
        patients=[f"{prefix}{i}" for i in range(count)],
        studies=[f"{prefix}{i}-s" for i in range(count)],
        text_hashes=[own[0] for own in sentences],
        keys=[f"{prefix}{i}-k" for i in range(count)],
    )

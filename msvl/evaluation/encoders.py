"""Embeddings of a held-out set, once for all tasks, without keeping the patches of every image.

N images, C shared channels, F image feature channels, K prompts, P phrase-image pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from einops import reduce
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from msvl.data.batch import Tokens
from msvl.evaluation.maps import cosine_maps
from msvl.models.outputs import ImageEmbeddings, TextEmbeddings


class Encodes(Protocol):
    """The part of MSVLModel that judgement needs."""

    training: bool

    def encode_image(self, images: Tensor) -> ImageEmbeddings:
        """[B, 1, H, W] uint8 -> embeddings."""

    def encode_text(self, tokens: Tokens) -> TextEmbeddings:
        """Tokens of B reports -> embeddings."""

    def train(self, mode: bool = True) -> object:
        """Set training mode."""

    def parameters(self) -> Iterator[Tensor]:
        """Iterate over parameters."""


class Tokenises(Protocol):
    """The part of ReportTokeniser that judgement needs."""

    def encode(self, reports: Sequence[Sequence[str]]) -> Tokens:
        """Tokenise reports given as lists of sentences."""

    def encode_prompts(self, prompts: Sequence[str]) -> Tokens:
        """Tokenise prompts, each a report of one sentence."""


@dataclass(frozen=True)
class PromptEmbeddings:
    """Prompts in both roles; unit length."""

    text: Tensor
    """[K, C] as a whole report, comparable with image embeddings."""
    sentence: Tensor
    """[K, C] as a sentence, comparable with patches."""


@dataclass(frozen=True)
class PhrasePairs:
    """Which phrase is looked for in which image."""

    rows: Tensor
    """[P] int64 rows of the image set, ascending."""
    phrases: Tensor
    """[P, C] sentence embeddings."""


@dataclass(frozen=True)
class EncodedImages:
    """What remains of one pass over the images, on the CPU."""

    image: Tensor
    """[N, C] unit length."""
    features: Tensor
    """[N, F] before the projection."""
    prompt_scores: Tensor
    """[N, K] largest patch cosine per prompt; K = 0 when no prompts were given."""
    pair_maps: Tensor
    """[P, rows, columns] cosine of each pair's phrase with the patches of its image; P = 0 without pairs."""


@contextmanager
def judging(model: Encodes) -> Iterator[None]:
    """Evaluation mode without gradients; the model's mode is restored afterwards."""
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def encode_images(
    model: Encodes,
    images: Tensor,
    *,
    batch_size: int,
    prompts: Tensor | None = None,
    pairs: PhrasePairs | None = None,
    progress: bool = False,
) -> EncodedImages:
    """Encode images and reduce their patches at once to what the tasks ask for.

    Args:
        model: Anything with `encode_image`.
        images: [N, 1, H, W] uint8.
        batch_size: Images per forward pass.
        prompts: [K, C] sentence embeddings whose best patch cosine is wanted per image.
        pairs: Phrases whose cosine maps are wanted.
        progress: Show a bar with the time left when it takes over two seconds.
    """
    device = next(iter(model.parameters())).device
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    with judging(model):
        starts = range(0, len(images), batch_size)
        for start in tqdm(starts, desc="encoding images", unit="batch", delay=2, disable=not progress, leave=False):
            encoded = model.encode_image(images[start : start + batch_size].to(device))
            patches = functional.normalize(encoded.patches.float(), dim=-1)
            scores = _best_patch(patches, prompts)
            maps = _pair_maps(patches, encoded.grid, pairs, start)
            parts.append((encoded.image.float().cpu(), encoded.features.float().cpu(), scores.cpu(), maps.cpu()))
    image, features, scores, maps = (torch.cat(column) for column in zip(*parts, strict=True))
    return EncodedImages(image=image, features=features, prompt_scores=scores, pair_maps=maps)


def _best_patch(patches: Tensor, prompts: Tensor | None) -> Tensor:
    if prompts is None:
        return patches.new_zeros(len(patches), 0)
    cosines = torch.einsum("bnc,kc->bnk", patches, functional.normalize(prompts.to(patches), dim=-1))
    return reduce(cosines, "b n k -> b k", "max")


def _pair_maps(patches: Tensor, grid: tuple[int, int], pairs: PhrasePairs | None, start: int) -> Tensor:
    if pairs is None:
        return patches.new_zeros(0, *grid)
    here = (pairs.rows >= start) & (pairs.rows < start + len(patches))
    own = patches[(pairs.rows[here] - start).to(patches.device)]
    return cosine_maps(own, pairs.phrases[here].to(patches), grid)


def encode_reports(
    model: Encodes, tokeniser: Tokenises, reports: Sequence[Sequence[str]], *, batch_size: int
) -> Tensor:
    """Encode whole reports.

    Args:
        model: Anything with `encode_text`.
        tokeniser: Anything with `encode`.
        reports: N reports as lists of sentences.
        batch_size: Reports per forward pass.

    Returns:
        [N, C] unit length, on the CPU.
    """
    parts = []
    with judging(model):
        for start in range(0, len(reports), batch_size):
            parts.append(_text_pass(model, tokeniser.encode(reports[start : start + batch_size])).text.float().cpu())
    return torch.cat(parts)


def encode_prompts(
    model: Encodes, tokeniser: Tokenises, prompts: Sequence[str], *, batch_size: int
) -> PromptEmbeddings:
    """Encode prompts or phrases, each one sentence.

    Returns:
        Unit-length embeddings in both roles, on the CPU.
    """
    texts, sentences = [], []
    with judging(model):
        for start in range(0, len(prompts), batch_size):
            encoded = _text_pass(model, tokeniser.encode_prompts(prompts[start : start + batch_size]))
            texts.append(encoded.text.float().cpu())
            sentences.append(functional.normalize(encoded.sentences[:, 0].float(), dim=-1).cpu())
    return PromptEmbeddings(text=torch.cat(texts), sentence=torch.cat(sentences))


def _text_pass(model: Encodes, tokens: Tokens) -> TextEmbeddings:
    """Run the text encoder on the longest report's length instead of the full capacity."""
    device = next(iter(model.parameters())).device
    trimmed = tokens.trimmed(multiple=1)
    return model.encode_text(Tokens(*(getattr(trimmed, item.name).to(device) for item in fields(Tokens))))

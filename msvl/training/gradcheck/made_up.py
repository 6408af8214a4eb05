"""A made-up global batch of embeddings, and a rank's share of it: what an objective is checked on without a model.

Ragged reports (1 to S sentences, padded), unequal numbers of masked tokens, and duplicates as asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from msvl.data.batch import SampleIds
from msvl.models.outputs import Embeddings, Reconstruction

AnyPart = TypeVar("AnyPart")
DUPLICATES = ("none", "some", "lonely")
"""'some': pairs that share text, study or patient; 'lonely': one pair shares text or patient with every other."""


@dataclass(frozen=True)
class Sizes:
    """Of a made-up batch."""

    pairs: int = 8
    channels: int = 6
    patches: int = 9
    sentences: int = 4
    hidden_patches: int = 3
    pixels: int = 5
    places: int = 4
    vocabulary: int = 7


def make_ids(pairs: int, duplicates: str) -> SampleIds:
    """Return identities of which so many are equal as a word of DUPLICATES says."""
    sample = torch.arange(pairs) * 7919 + 2**40
    text, study, patient, read = sample + 1, sample + 2, sample + 3, sample + 4
    if duplicates == "some":
        text[[0, 3, pairs - 1]] = 11
        read[[0, 3]] = 21
        study[[1, pairs - 2]] = 12
        patient[[1, 2, pairs - 2]] = 13
    if duplicates == "lonely":
        text[: pairs // 2] = 14
        patient[pairs // 2 :] = 15
        patient[0] = 15
    return SampleIds(sample=sample, text=text, read=read, study=study, patient=patient)


def make_embeddings(sizes: Sizes, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Embeddings:
    """Return embeddings of all pairs; the two of a pair are alike, as in training."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def unit(vectors: Tensor) -> Tensor:
        return torch.nn.functional.normalize(vectors, dim=-1)

    g, c = sizes.pairs, sizes.channels
    common = normal(g, c)
    counts = torch.arange(g) % sizes.sentences + 1
    mask = torch.arange(sizes.sentences) < counts.unsqueeze(1)
    used = torch.arange(sizes.places) < (torch.arange(g) % sizes.places + 1).unsqueeze(1)
    labels = torch.randint(0, sizes.vocabulary, (g, sizes.places), generator=generator)
    values = {
        "image": unit(common + normal(g, c)),
        "text": unit(common + normal(g, c)),
        "patches": common.unsqueeze(1) + normal(g, sizes.patches, c),
        "sentences": (common.unsqueeze(1) + normal(g, sizes.sentences, c)) * mask.unsqueeze(-1),
        "masked_image": unit(common + normal(g, c)),
        "masked_text": unit(common + normal(g, c)),
    }
    reconstruction = Reconstruction(
        patch_prediction=normal(g, sizes.hidden_patches, sizes.pixels).to(dtype),
        patch_target=normal(g, sizes.hidden_patches, sizes.pixels).to(dtype),
        token_logits=normal(g, sizes.places, sizes.vocabulary).to(dtype),
        token_labels=torch.where(used, labels, -100),
    )
    tensors = {name: value.to(dtype) for name, value in values.items()}
    return Embeddings(**tensors, sentence_mask=mask, reconstruction=reconstruction)


def leaves(embeddings: Embeddings) -> dict[str, Tensor]:
    """Return every floating-point tensor by name: what a model would hand over with gradient."""
    found = {}
    for part in (embeddings, embeddings.reconstruction):
        if part is None:
            continue
        for item in fields(part):
            value = getattr(part, item.name)
            if isinstance(value, Tensor) and value.is_floating_point() and item.name != "patch_target":
                found[item.name] = value
    return found


def with_leaves(embeddings: Embeddings, tensors: dict[str, Tensor]) -> Embeddings:
    """Return `embeddings` with the tensors of `leaves` replaced."""
    whole = {name: value for name, value in tensors.items() if hasattr(embeddings, name)}
    rest = {name: value for name, value in tensors.items() if name not in whole}
    reconstruction = embeddings.reconstruction
    if reconstruction is not None:
        reconstruction = replace(reconstruction, **rest)
    return replace(embeddings, **whole, reconstruction=reconstruction)


def trainable(embeddings: Embeddings) -> tuple[Embeddings, dict[str, Tensor]]:
    """Return a copy whose floating-point tensors are leaves with gradient, and these."""
    found = {name: value.detach().clone().requires_grad_() for name, value in leaves(embeddings).items()}
    return with_leaves(embeddings, found), found


def rows_of(part: AnyPart, rows: Tensor) -> AnyPart:
    """Return embeddings or identities of the given pairs."""
    return _each_tensor(part, lambda value: value[rows])


def on_meta(part: AnyPart) -> AnyPart:
    """Return embeddings or identities without values; what is floating point takes gradients."""
    return _each_tensor(part, lambda value: value.detach().to("meta").requires_grad_(value.is_floating_point()))


def _each_tensor(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    changed = {}
    for item in fields(part):
        value = getattr(part, item.name)
        if isinstance(value, Tensor):
            changed[item.name] = change(value)
        elif is_dataclass(value):
            changed[item.name] = _each_tensor(value, change)
    return replace(part, **changed)

"""One rank's share of a step at real size: the model, a batch, embeddings and objectives of configs/pretrain/mimic_cxr.yaml.

The other ranks are torch's `fake` process group: it moves nothing and answers each gather with copies of this rank's own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msvl.config.load import load_config  # noqa: E402
from msvl.data.batch import Batch, SampleIds, Tokens  # noqa: E402
from msvl.models.build import build_model  # noqa: E402
from msvl.models.masking import token_capacity  # noqa: E402
from msvl.models.msvl_model import MSVLModel  # noqa: E402
from msvl.models.outputs import Embeddings, Reconstruction  # noqa: E402
from msvl.objectives.gathering import gather_embeddings  # noqa: E402
from msvl.objectives.parts import DIFFERENTIABLE  # noqa: E402
from msvl.objectives.scale import StepContext  # noqa: E402
from msvl.objectives.total import Objectives  # noqa: E402
from msvl.training.config import PretrainConfig  # noqa: E402

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "pretrain" / "mimic_cxr.yaml"
PREDICTED = ("patch_prediction", "token_logits")


class BertVocabulary(NamedTuple):
    """Of bert-base-uncased."""

    vocab_size: int = 30522
    pad_id: int = 0
    unk_id: int = 100
    mask_id: int = 103


def configuration(image_size: int, patch: int, *overrides: str) -> PretrainConfig:
    """Return mimic_cxr.yaml with random weights at this size."""
    sizes = [f"data.image_size={image_size}", f"model.image.patch={patch}"]
    weights = ["model.image.weights=null", "model.text.weights=null"]
    return load_config(CONFIG, [*sizes, *weights, *overrides], PretrainConfig)


def model_of(config: PretrainConfig) -> MSVLModel:
    """Build the model on the CPU."""
    torch.manual_seed(0)
    return build_model(
        config.model, image_size=config.data.image_size, tokeniser=BertVocabulary(), pixel_mean=0.5, pixel_std=0.25
    )


def batch_of(config: PretrainConfig, pairs: int) -> Batch:
    """Return random images and reports that fill the capacity of tokens and of sentences."""
    side, length, sentences = config.data.image_size, config.data.report.max_tokens, config.data.report.max_sentences
    index = torch.full((pairs, length), -1)
    index[:, 1:-1] = torch.arange(length - 2) * sentences // (length - 2)
    tokens = Tokens(
        input_ids=torch.randint(1000, 30000, (pairs, length)),
        attention_mask=torch.ones(pairs, length, dtype=torch.int64),
        sentence_index=index,
        sentence_mask=torch.ones(pairs, sentences, dtype=torch.bool),
    )
    sample = torch.arange(pairs) * 7919 + 2**40
    ids = SampleIds(sample=sample, text=sample + 1, read=sample + 2, study=sample + 3, patient=sample + 4)
    images = torch.randint(0, 256, (pairs, 1, side, side), dtype=torch.uint8)
    return Batch(images=images, tokens=tokens, ids=ids, keys=tuple(map(str, range(pairs))), step=0)


@contextmanager
def ranks(number: int) -> Iterator[None]:
    """Be one of so many ranks, the others being made up."""
    dist.init_process_group("fake", store=FakeStore(), rank=number // 2, world_size=number)
    try:
        yield
    finally:
        dist.destroy_process_group()


def differentiable(embeddings: Embeddings) -> dict[str, Tensor]:
    """Return by name what the model hands over with gradient."""
    found = {name: getattr(embeddings, name) for name in DIFFERENTIABLE}
    found |= {name: getattr(embeddings.reconstruction, name, None) for name in PREDICTED}
    return {name: value for name, value in found.items() if value is not None}


def as_leaves(embeddings: Embeddings) -> Embeddings:
    """Return the same values as leaves with gradient."""
    leaves = {name: value.detach().requires_grad_() for name, value in differentiable(embeddings).items()}
    predicted = {name: leaves.pop(name) for name in PREDICTED}
    return replace(embeddings, **leaves, reconstruction=replace(embeddings.reconstruction, **predicted))


def made_up(config: PretrainConfig, pairs: int) -> Embeddings:
    """Return embeddings of the model's shapes on the meta device."""
    channels, side = config.model.channels, config.model.image.patch
    patches = (config.data.image_size // side) ** 2
    hidden, sentences = int(config.model.image.mask_ratio * patches + 0.5), config.data.report.max_sentences
    places = token_capacity(config.data.report.max_tokens, config.model.text.mask_ratio)
    empty = partial(torch.empty, device="meta")
    return Embeddings(
        **{name: empty(pairs, channels) for name in ("image", "text", "masked_image", "masked_text")},
        patches=empty(pairs, patches, channels),
        sentences=empty(pairs, sentences, channels),
        sentence_mask=empty(pairs, sentences, dtype=torch.bool),
        reconstruction=Reconstruction(
            patch_prediction=empty(pairs, hidden, side**2),
            patch_target=empty(pairs, hidden, side**2),
            token_logits=empty(pairs, places, BertVocabulary().vocab_size),
            token_labels=empty(pairs, places, dtype=torch.int64),
        ),
    )


def objectives_of(config: PretrainConfig) -> Objectives:
    """Build the configured objectives, the cross-sample term among them."""
    return Objectives(config.objectives, channels=config.model.channels, seed=0)


def one_scale(objectives: Objectives, name: str, embeddings: Embeddings, ids: SampleIds) -> Tensor:
    """Return the loss of one scale, gathered for it alone."""
    gathered = gather_embeddings(embeddings, ids, sentences=name == "local")
    context = StepContext(embeddings=embeddings, ids=ids, gathered=gathered, step=0)
    loss: Tensor = objectives.scales[f"{name}_scale"](context).loss
    return loss

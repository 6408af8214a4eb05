"""A tiny model and a batch with ragged reports, for the tests of models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from msvl.data.batch import Batch, SampleIds, Tokens
from msvl.models.build import build_model
from msvl.models.config import ModelConfig
from msvl.models.msvl_model import MSVLModel

torch.set_num_threads(1)

SIDE, PATCH, GRID = 32, 8, 4
LENGTH, SENTENCES = 24, 4
PAD, UNK, CLS, SEP, MASK, VOCABULARY = 0, 1, 2, 3, 4, 50


class TinyTokeniser:
    """What the model asks of a tokenizer."""

    vocab_size, pad_id, unk_id, mask_id = VOCABULARY, PAD, UNK, MASK

    def save(self, folder: Path) -> None:
        """Write one file."""
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").write_text(json.dumps({}), encoding="utf-8")


def tiny_config(*, image: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **top: Any) -> ModelConfig:
    """Return a configuration of the smallest sensible size, with changes."""
    decoder = {"width": 16, "depth": 1, "heads": 2}
    small_image = {"width": 32, "depth": 2, "heads": 2, "mlp_width": 64, "patch": PATCH, "decoder": decoder}
    small_text = {"width": 24, "depth": 2, "heads": 2, "mlp_width": 48}
    tree = {"channels": 20, "image": small_image | (image or {}), "text": small_text | (text or {})} | top
    return ModelConfig.model_validate(tree)


def tiny_model(
    config: ModelConfig | None = None, *, seed: int = 0, side: int = SIDE, target_scale: int = 1
) -> MSVLModel:
    """Build the tiny model."""
    torch.manual_seed(seed)
    return build_model(
        config or tiny_config(), image_size=side, target_scale=target_scale, tokeniser=TinyTokeniser(), pixel_mean=0.5,
        pixel_std=0.25,
    )  # fmt: skip


def tiny_tokens(lengths: list[list[int]], *, length: int = LENGTH, seed: int = 0) -> Tokens:
    """Return reports whose sentences have the given numbers of tokens."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), length)
    ids, sentence = torch.full(shape, PAD), torch.full(shape, -1)
    filled = torch.zeros(len(lengths), SENTENCES, dtype=torch.bool)
    for row, report in enumerate(lengths):
        ids[row, 0], place = CLS, 1
        for number, count in enumerate(report):
            ids[row, place : place + count] = torch.randint(MASK + 1, VOCABULARY, (count,), generator=generator)
            sentence[row, place : place + count] = number
            filled[row, number] = True
            place += count
        ids[row, place] = SEP
    return Tokens(input_ids=ids, attention_mask=(ids != PAD).long(), sentence_index=sentence, sentence_mask=filled)


def tiny_batch(*, step: int = 7, seed: int = 0, side: int = SIDE) -> Batch:
    """Return five pairs with ragged reports, one of them with a single one-token sentence."""
    tokens = tiny_tokens([[5, 4, 6], [1], [7, 8], [3, 3, 3, 3], [12]], seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    images = torch.randint(0, 256, (5, 1, side, side), dtype=torch.uint8, generator=generator)
    sample = torch.randint(0, 2**62, (5,), generator=generator)
    ids = SampleIds(sample=sample, text=sample, read=sample, study=sample, patient=sample)
    return Batch(images=images, tokens=tokens, ids=ids, keys=tuple("abcde"), step=step)


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """Return some pairs of a batch, in this order."""
    tokens = Tokens(*(getattr(batch.tokens, name)[rows] for name in Tokens.__dataclass_fields__))
    ids = SampleIds(*(getattr(batch.ids, name)[rows] for name in SampleIds.__dataclass_fields__))
    keys = tuple(batch.keys[row] for row in rows)
    return Batch(images=batch.images[rows], tokens=tokens, ids=ids, keys=keys, step=batch.step)

"""The configured model and objectives on a made-up batch: one process, and N ranks that share it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from msvl.collectives.reduce import mean, mean_of
from msvl.collectives.world import rank, world_size
from msvl.config.load import check_config
from msvl.data.batch import Batch, SampleIds, Tokens
from msvl.models.build import build_model
from msvl.objectives.total import Objectives
from msvl.training.config import PretrainConfig
from msvl.training.gradcheck.compare import Measured, gradient_of
from msvl.training.gradcheck.mistakes import mistake
from msvl.training.module import PretrainModule


class _Vocabulary:
    """What a model asks of a tokenizer, without text."""

    vocab_size, pad_id, unk_id, mask_id = 200, 0, 1, 4


def parameter_groups(names: list[str]) -> dict[str, str]:
    """Return parameter -> the words for its group."""
    known = {
        "model.image_encoder": "image encoder", "model.text_encoder": "text encoder",
        "model.image_decoder": "decoders", "model.text_decoder": "decoders", "model.": "projections",
    }  # fmt: skip
    groups = {}
    for name in names:
        last = "logit scales" if "logit_scale" in name or name.endswith("global_scale.bias") else "heads of the losses"
        groups[name] = next((group for prefix, group in known.items() if name.startswith(prefix)), last)
    return groups


def measure(tree: dict[str, Any], pairs: int, broken: str | None) -> Measured:
    """Collective. Return losses and averaged gradients of this world's share of the made-up batch.

    Args:
        tree: Configuration.
        pairs: Of the global batch.
        broken: A mistake to make, or None.
    """
    config = check_config(tree, PretrainConfig, where="gradcheck")
    module = build_module(config)
    rows = torch.arange(rank(), pairs, world_size())
    share = rows_of(made_up_batch(config, pairs), rows)
    with mistake(broken if world_size() > 1 else None):
        values, found = losses_and_gradients(module, share)
    gradients = {name: {key: mean(one) for key, one in parts.items()} for name, parts in found.items()}
    return Measured(losses=mean_of({name: values[name] for name in found}), gradients=gradients)


def losses_and_gradients(
    module: PretrainModule, batch: Batch
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Return this rank's losses, and per loss that has a gradient {parameter: gradient}, not averaged over ranks."""
    values = module(batch)
    names = [name for name in (*module.objectives.weights, "total") if values[name].requires_grad]
    found = {}
    for name in names:
        module.zero_grad()
        values[name].backward(retain_graph=name != names[-1])
        found[name] = {key: gradient_of(parameter) for key, parameter in module.named_parameters()}
    return values, found


def build_module(config: PretrainConfig) -> PretrainModule:
    """Return the configured model and objectives, with the weights that the run's seed gives."""
    torch.manual_seed(config.train.seed)
    data = config.data
    model = build_model(config.model, image_size=data.image_size, target_scale=data.target_scale, tokeniser=_Vocabulary(),
                        pixel_mean=0.5, pixel_std=0.25)  # fmt: skip
    objectives = Objectives(config.objectives, channels=config.model.channels, seed=config.train.seed)
    return PretrainModule(model, objectives, seed=config.train.seed)


def made_up_batch(config: PretrainConfig, pairs: int) -> Batch:
    """Return noise with ragged reports; two texts occur twice, and one patient has two studies."""
    generator = torch.Generator().manual_seed(7)
    side, report = config.data.image_size * config.data.target_scale, config.data.report
    length, places = min(report.max_tokens, 64), min(report.max_sentences, 6)
    ids, sentence = torch.zeros(pairs, length, dtype=torch.int64), torch.full((pairs, length), -1)
    filled = torch.zeros(pairs, report.max_sentences, dtype=torch.bool)
    for row in range(pairs):
        ids[row, 0], used = 2, 1
        for place in range(int(torch.randint(1, places + 1, (), generator=generator))):
            count = min(int(torch.randint(1, 9, (), generator=generator)), length - 1 - used)
            if count < 1:
                break
            ids[row, used : used + count] = torch.randint(5, _Vocabulary.vocab_size, (count,), generator=generator)
            sentence[row, used : used + count] = place
            filled[row, place] = True
            used += count
        ids[row, used] = 3
    sample = torch.randint(0, 2**62, (pairs,), generator=generator)
    text, study, patient = sample + 1, sample + 2, sample + 3
    text[-1], patient[-2] = text[0], patient[1]
    images = torch.randint(0, 256, (pairs, 1, side, side), dtype=torch.uint8, generator=generator)
    return Batch(
        images=images,
        tokens=Tokens(ids, (ids != 0).long(), sentence, filled),
        ids=SampleIds(sample=sample, text=text, read=text, study=study, patient=patient),
        keys=tuple(str(number) for number in range(pairs)),
        step=3,
    )


def rows_of(batch: Batch, rows: Tensor) -> Batch:
    """Return the pairs at these places."""
    tokens = Tokens(*(getattr(batch.tokens, name)[rows] for name in Tokens.__dataclass_fields__))
    ids = SampleIds(*(getattr(batch.ids, name)[rows] for name in SampleIds.__dataclass_fields__))
    keys = tuple(batch.keys[row] for row in rows.tolist())
    return Batch(images=batch.images[rows], tokens=tokens, ids=ids, keys=keys, step=batch.step)

"""THE promise: the real model on N ranks, under every ZeRO stage, has the losses and gradients of one plain process.

One process computes the whole global batch without DeepSpeed. N gloo ranks then compute their shares (positions r, r + N,
...) through the engine that a run uses. Reports are ragged, two texts occur twice and one patient has two studies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from msvl.collectives.reduce import mean_of
from msvl.collectives.world import rank, world_size
from msvl.config.load import check_config
from msvl.data.batch import Batch, SampleIds
from msvl.environment import prepare_environment
from msvl.models.build import build_model
from msvl.objectives.total import Objectives
from msvl.training import engine as engines
from msvl.training.acceptance.exact import forgotten_accelerator
from msvl.training.config import PretrainConfig
from msvl.training.module import PretrainModule
from msvl.training.optimizer import build_optimizer
from msvl.training.zero import deepspeed_dictionary
from tests.helpers.ranks import run_ranks
from tests.models.tiny import TinyTokeniser, rows_of, tiny_tokens

PAIRS, SIDE = 8, 32
LOSSES = ("global", "local", "instance", "modality", "total")
SENTENCES = [[5, 4, 6], [1], [7, 8], [3, 3, 3, 3], [12], [5, 4, 6], [2, 9], [7, 8]]
"""Tokens per sentence of each report."""
SPLIT = {"stage3_param_persistence_threshold": 0}
STAGES: dict[str, tuple[int, dict[str, Any]]] = {
    "zero-0": (0, {}),
    "zero-1": (1, {}),
    "zero-2": (2, {}),
    "zero-3": (3, {}),
    # By default DeepSpeed keeps parameters this small whole on every rank; here each is fetched when its module runs.
    "zero-3-split": (3, SPLIT),
}


@dataclass(frozen=True)
class Measured:
    """What one rank found under one stage."""

    losses: dict[str, float]
    """Mean over ranks."""
    gradients: dict[str, dict[str, Tensor]]
    """Loss -> parameter -> gradient averaged over ranks, before clipping."""
    parameters: dict[str, Tensor]
    """After all steps (of learning rate 0)."""


def configure(stage: int, **train: Any) -> PretrainConfig:
    decoder = {"width": 16, "depth": 1, "heads": 2}
    tree = {
        "run": {"name": "exact"},
        "data": {"path": "none", "image_size": SIDE},
        "model": {
            "channels": 16,
            "image": {"width": 64, "depth": 1, "heads": 2, "mlp_width": 64, "stem": "conv", "decoder": decoder},
            "text": {"width": 32, "depth": 1, "heads": 2, "mlp_width": 32, "mask_ratio": 0.3},
        },
        "objectives": {"local": {"tile": 3}, "modality": {"cross_sample_weight": 0.1}},
        "train": {"steps": 10, "global_batch": PAIRS, "gradient_clipping": 0.0, "timeout_minutes": 2, **train},
        "optimizer": {"weight_decay": 0.0},
        "zero": {"stage": stage},
    }
    return check_config(tree, PretrainConfig, where="test")


def build_module(config: PretrainConfig) -> PretrainModule:
    torch.manual_seed(config.train.seed)
    model = build_model(config.model, image_size=SIDE, tokeniser=TinyTokeniser(), pixel_mean=0.5, pixel_std=0.25)
    objectives = Objectives(config.objectives, channels=config.model.channels, seed=config.train.seed)
    return PretrainModule(model, objectives, seed=config.train.seed)


def global_batch() -> Batch:
    tokens = tiny_tokens(SENTENCES)
    for copy, original in ((5, 0), (7, 2)):
        for name in ("input_ids", "attention_mask", "sentence_index", "sentence_mask"):
            getattr(tokens, name)[copy] = getattr(tokens, name)[original]
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (PAIRS, 1, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    sample = torch.randint(0, 2**62, (PAIRS,), generator=generator)
    text, study, patient = sample + 1, sample + 2, sample + 3
    text[5], text[7] = text[0], text[2]
    patient[6] = patient[1]
    ids = SampleIds(sample=sample, text=text, read=text, study=study, patient=patient)
    return Batch(images=images, tokens=tokens, ids=ids, keys=tuple("abcdefgh"), step=4)


@cache
def one_process() -> Measured:
    """The whole batch in this process, without DeepSpeed."""
    module = build_module(configure(0))
    losses, gradients = {}, {}
    for name in LOSSES:
        module.zero_grad()
        values = module(global_batch())
        values[name].backward()
        losses[name] = values[name].item()
        gradients[name] = {
            key: torch.zeros_like(p) if p.grad is None else p.grad.clone() for key, p in module.named_parameters()
        }
    return Measured(losses, gradients, {key: p.detach().clone() for key, p in module.named_parameters()})


def one_stage(stage: int, zero_options: dict[str, Any]) -> Measured:
    """Collective. This rank's share through the engine, one backward pass and one step of rate 0 for each loss."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_grad

    config = configure(stage)
    settings = deepspeed_dictionary(config, world_size())
    settings["zero_optimization"] |= zero_options
    with forgotten_accelerator(), mock.patch.object(engines, "deepspeed_dictionary", lambda *_: settings):
        accelerator = engines.start_processes(config, world_size())
        module = build_module(config)
        engine = engines.build_engine(accelerator, module, build_optimizer(module, config.optimizer, offload=False))
        deepspeed = engine.deepspeed
        assert (engine.facts()["zero_stage"], engine.facts()["ranks"]) == (stage, world_size())
        for group in deepspeed.optimizer.param_groups:
            group["lr"] = 0.0
        share = rows_of(global_batch(), list(range(rank(), PAIRS, world_size())))
        losses, gradients = {}, {}
        for name in LOSSES:
            values = deepspeed(share)
            # ZeRO-3 keeps a parameter's gradient of the step before where the loss does not reach it (DeepSpeed 0.19).
            # No run changes its loss from step to step; here the zero makes every loss reach every parameter.
            deepspeed.backward(values[name] + 0 * values["total"] if stage == 3 else values[name])
            losses |= mean_of({name: values[name]})
            gradients[name] = whole(module, safe_get_full_grad)
            deepspeed.step()
        parameters = whole(module, safe_get_full_fp32_param if stage else lambda parameter: parameter.data)
        deepspeed.destroy()
    return Measured(losses, gradients, parameters)


def whole(module: nn.Module, read: Any) -> dict[str, Tensor]:
    """Collective. Every parameter's value or gradient; what DeepSpeed has no gradient for is zero."""
    found = {}
    for name, parameter in module.named_parameters():
        value = read(parameter)
        shape = getattr(parameter, "ds_shape", parameter.shape)
        found[name] = torch.zeros(shape) if value is None else value.detach().clone().reshape(shape)
    return found


def every_stage() -> dict[str, Measured]:
    prepare_environment()
    return {name: one_stage(*case) for name, case in STAGES.items()}


@cache
def many_processes(world: int) -> list[dict[str, Measured]]:
    """All stages in one start: a start of DeepSpeed and transformers takes seconds."""
    return run_ranks(world, every_stage, timeout=300)


pytestmark = pytest.mark.ranks
over_worlds = pytest.mark.parametrize("world", [2, 4])
over_stages = pytest.mark.parametrize("stage", STAGES)
over_losses = pytest.mark.parametrize("loss", LOSSES)


@pytest.mark.evidence("The real model on N ranks under ZeRO 0 to 3 has one process's losses, N = 2 and 4", how="gloo")
@over_worlds
@over_stages
@over_losses
def test_losses_are_those_of_one_process(world: int, stage: str, loss: str) -> None:
    one = one_process().losses[loss]
    for answer in many_processes(world):
        assert abs(answer[stage].losses[loss] - one) <= 1e-5 * abs(one)


@pytest.mark.evidence(
    "The real model on N ranks under ZeRO 0 to 3 has one process's gradient in every parameter, N = 2 and 4", how="gloo"
)
@over_worlds
@over_stages
@over_losses
def test_gradients_are_those_of_one_process(world: int, stage: str, loss: str) -> None:
    one = one_process().gradients[loss]
    total = torch.stack([gradient.norm() for gradient in one.values()]).norm()
    assert total > 0
    for answer in many_processes(world):
        many = answer[stage].gradients[loss]
        assert set(many) == set(one)
        for name, gradient in one.items():
            # A key bias of attention has the gradient 0: the second term is for such tensors.
            assert (many[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-6 * total, name


@over_worlds
@over_stages
def test_steps_of_rate_zero_leave_the_parameters(world: int, stage: str) -> None:
    one = one_process().parameters
    for answer in many_processes(world):
        many = answer[stage].parameters
        assert set(many) == set(one)
        assert all(torch.equal(many[name], value) for name, value in one.items())


def test_the_total_asks_something_of_every_parameter() -> None:
    silent = {name for name, gradient in one_process().gradients["total"].items() if not gradient.any()}
    assert not {name for name in silent if not name.endswith("key.bias")}, silent

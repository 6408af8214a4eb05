"""k micro-batches on N ranks under ZeRO 0 to 3 have the losses and gradients of one process on the whole batch."""

from __future__ import annotations

from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from msvl.collectives.reduce import mean_of
from msvl.collectives.world import rank, world_size
from msvl.environment import prepare_environment
from msvl.training import engine as engines
from msvl.training.optimizer import build_optimizer
from msvl.training.zero import deepspeed_dictionary
from tests.helpers.ranks import run_ranks
from tests.models.tiny import rows_of
from tests.training.test_exactness import (
    LOSSES,
    PAIRS,
    SPLIT,
    build_module,
    configure,
    forgotten_accelerator,
    global_batch,
    one_process,
    whole,
)

WORLD = 2
CASES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "zero-0": (0, 2, {}),
    "zero-1": (1, 2, {}),
    "zero-2": (2, 2, {}),
    "zero-2-singles": (2, 1, {}),
    "zero-3": (3, 2, {}),
    "zero-3-split": (3, 2, SPLIT),
}
"""ZeRO stage, micro-batch, further settings."""
STEPS = 2
"""Of rate 0: what one step leaves behind must not reach the next."""


def one_case(
    stage: int, micro: int, zero_options: dict[str, Any], kind: str
) -> list[tuple[dict[str, float], dict[str, Tensor]]]:
    """Collective. Return losses and gradients of each step."""
    from deepspeed.utils import safe_get_full_grad

    config = configure(stage, micro_batch=micro, accumulation=kind)
    settings = deepspeed_dictionary(config, world_size())
    settings["zero_optimization"] |= zero_options
    with forgotten_accelerator(), mock.patch.object(engines, "deepspeed_dictionary", lambda *_: settings):
        accelerator = engines.start_processes(config, world_size())
        module = build_module(config)
        optimizer = build_optimizer(module, config.optimizer, offload=False)
        engine = engines.build_engine(accelerator, module, optimizer, accumulation=config.train.accumulation)
        facts = engine.facts()
        assert (facts["accumulation"], facts["accumulation_kind"]) == (PAIRS // WORLD // micro, kind)
        for group in engine.deepspeed.optimizer.param_groups:
            group["lr"] = 0.0
        share = rows_of(global_batch(), list(range(rank(), PAIRS, world_size())))
        found = []
        for _ in range(STEPS):
            values = engine.forward(share)
            engine._accumulation.backward()
            found.append((mean_of({name: values[name] for name in LOSSES}), whole(module, safe_get_full_grad)))
            assert engine.deepspeed.is_gradient_accumulation_boundary()
            engine.deepspeed.step()
        engine.deepspeed.destroy()
    return found


def every_case() -> dict[str, list[tuple[dict[str, float], dict[str, Tensor]]]]:
    prepare_environment()
    found = {name: one_case(*case, "cached") for name, case in CASES.items()}
    return found | {"plain": one_case(2, 2, {}, "plain")}


@cache
def answers() -> list[dict[str, list[tuple[dict[str, float], dict[str, Tensor]]]]]:
    return run_ranks(WORLD, every_case, timeout=300)


pytestmark = pytest.mark.ranks


@pytest.mark.evidence("Micro-batches with gradient caching give the losses of the whole global batch", how="gloo")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_those_of_the_whole_batch(case: str, loss: str) -> None:
    one = one_process().losses[loss]
    for answer in answers():
        for losses, _ in answer[case]:
            assert abs(losses[loss] - one) <= 1e-5 * abs(one)


@pytest.mark.evidence(
    "Micro-batches with gradient caching give the gradients of the whole global batch, under ZeRO 0 to 3", how="gloo"
)
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_whole_batch(case: str) -> None:
    one = one_process().gradients["total"]
    total = torch.stack([gradient.norm() for gradient in one.values()]).norm()
    for answer in answers():
        for _, many in answer[case]:
            assert set(many) == set(one)
            for name, gradient in one.items():
                assert (many[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-6 * total, name


def test_plain_accumulation_is_another_objective() -> None:
    one = one_process()
    for answer in answers():
        losses, gradients = answer["plain"][0]
        assert losses["global"] < 0.95 * one.losses["global"], "fewer candidates make a smaller loss"
        name = "model.image_projection.weight"
        assert (gradients[name] - one.gradients["total"][name]).norm() > 0.05 * one.gradients["total"][name].norm()

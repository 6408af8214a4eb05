"""Losses and gradients of all ranks, through the engine of a run, against one process on one device and against CPU float64.

The model is the configured one made small (`msvl gradcheck --shrink`), the objectives are the configured ones, the batch is made
up: ragged reports, two equal texts, one patient with two studies. Each ZeRO stage in fp32 and bf16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from msvl.collectives.reduce import mean_of
from msvl.collectives.world import rank
from msvl.training import engine as engines
from msvl.training.config import PretrainConfig
from msvl.training.gradcheck.compare import Measured, Verdict, compare
from msvl.training.gradcheck.mistakes import mistake
from msvl.training.gradcheck.own import (
    build_module,
    losses_and_gradients,
    made_up_batch,
    parameter_groups,
    rows_of,
)
from msvl.training.module import PretrainModule
from msvl.training.optimizer import build_optimizer

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Tolerance:
    """How far a case may be from a reference."""

    loss: float
    """Of a loss, relative."""
    gradient: float
    """Of a group's gradient, relative."""
    floor: float
    """Share of the whole gradient that comes on top."""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(loss=1e-4, gradient=1e-4, floor=1e-6),
    # Of a group that many positions add to in bf16 (the text encoder's embeddings), single gradients differ by up to 10 %.
    "bf16": Tolerance(loss=0.02, gradient=0.2, floor=0.02),
}
"""bf16 is compared with fp32 on one device: there, whole batches add up in bf16, which is worse than shares of them."""


@dataclass(frozen=True)
class Case:
    """One ZeRO stage in one precision, and how far it is from the references."""

    stage: int
    precision: Precision
    against: dict[str, dict[str, Any]]
    """Reference -> worst relative difference of a loss and of a gradient, where, whether it is right, and what is wrong."""

    @property
    def right(self) -> bool:
        """Whether it is near enough to every reference."""
        return all(one["right"] for one in self.against.values())


def full_fp32() -> None:
    """Let fp32 be fp32 where the hardware would round products to TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def measure_references(config: PretrainConfig, pairs: int, device: torch.device) -> dict[str, Measured]:
    """Return losses and gradients of the whole batch in this process alone, without an engine: on the CPU in float64, and on
    the device in fp32. Called before the process group begins."""  # fmt: skip
    full_fp32()
    modules = {"CPU float64": build_module(config).double(), "one device": build_module(config).to(device)}
    batch = made_up_batch(config, pairs)
    found = {}
    for name, module in modules.items():
        values, gradients = losses_and_gradients(module, batch.to(next(module.parameters()).device))
        losses = {loss: values[loss].item() for loss in gradients}
        whole = {loss: {key: one.cpu() for key, one in parts.items()} for loss, parts in gradients.items()}
        found[name] = Measured(losses=losses, gradients=whole)
    return found


def measure_case(config: PretrainConfig, pairs: int, world: int, broken: str | None = None) -> Measured:
    """Collective. Return losses and whole gradients of this world through the engine, for the configured stage and precision.

    Args:
        config: Its global batch is `pairs`.
        pairs: Of the made-up batch; rank r has rows r, r + W, ...
        world: W, as the launcher says: the process group may not have begun.
        broken: A mistake of gradcheck's to make, to see it found.
    """
    from deepspeed.utils import safe_get_full_grad

    full_fp32()
    with forgotten_accelerator():
        accelerator = engines.start_processes(config, world)
        module = build_module(config)
        engine = engines.build_engine(accelerator, module, build_optimizer(module, config.optimizer, offload=False))
        for group in engine.deepspeed.optimizer.param_groups:
            group["lr"] = 0.0
        share = rows_of(made_up_batch(config, pairs), torch.arange(rank(), pairs, world)).to(engine.device)
        losses: dict[str, float] = {}
        gradients: dict[str, dict[str, Tensor]] = {}
        with mistake(broken):
            for name in (*module.objectives.weights, "total"):
                values = engine.deepspeed(share)
                # ZeRO-3 keeps a parameter's gradient of the step before where the loss does not reach it (DeepSpeed 0.19).
                # No run changes its loss from step to step; here the zero makes every loss reach every parameter.
                engine.deepspeed.backward(values[name] + 0 * values["total"])
                losses |= mean_of({name: values[name]})
                gradients[name] = _whole(module, safe_get_full_grad)
                engine.deepspeed.step()
        engine.deepspeed.destroy()
    return Measured(losses=losses, gradients=gradients)


def judge_case(config: PretrainConfig, many: Measured, world: int, references: dict[str, Measured]) -> Case:
    """Compare what `measure_case` returned with the references."""
    tolerance = TOLERANCES[config.train.precision]
    found = {}
    for name, one in references.items():
        groups = parameter_groups(list(next(iter(one.gradients.values()))))
        verdict = compare(one, many, ranks=world, tolerance=tolerance.gradient, groups=groups, floor=tolerance.floor)
        found[name] = _summary(verdict, tolerance)
    return Case(config.zero.stage, config.train.precision, found)


def with_case(config: PretrainConfig, stage: int, precision: Precision, pairs: int) -> PretrainConfig:
    """Return the configuration for one case."""
    changes = {"global_batch": pairs, "precision": precision, "micro_batch": "auto", "gradient_clipping": 0.0}
    train = config.train.model_copy(update=changes)
    zero = config.zero.model_copy(update={"stage": stage, "offload": "none"})
    return config.model_copy(update={"train": train, "zero": zero})


def _summary(verdict: Verdict, tolerance: Tolerance) -> dict[str, Any]:
    gaps = {loss: abs(many - one) / (abs(one) or 1) for loss, (one, many) in verdict.values.items()}
    loss = max(gaps, key=lambda name: gaps[name] if isfinite(gaps[name]) else inf)
    # Where the true gradient is zero there is no relative difference; `right` has looked at those.
    lines = [line for line in verdict.lines if isfinite(line.difference)]
    line = max(lines, key=lambda found: found.difference, default=None)
    words = [] if verdict.right else verdict.sentences()
    if not gaps[loss] <= tolerance.loss and not words:
        words = [f"{loss}: the value is {verdict.values[loss][1]:.6g} instead of {verdict.values[loss][0]:.6g}"]
    return {
        "loss": gaps[loss] if isfinite(gaps[loss]) else None,
        "worst_loss": loss,
        "gradient": line.difference if line else None,
        "worst_gradient": f"{line.loss}, {line.group}" if line else "all",
        "right": not words,
        "words": words,
    }


def _whole(module: PretrainModule, read: Any) -> dict[str, Tensor]:
    """Collective. Every parameter's gradient on the CPU; what DeepSpeed has none for is zero."""
    found = {}
    for name, parameter in module.named_parameters():
        value, shape = read(parameter), getattr(parameter, "ds_shape", parameter.shape)
        found[name] = torch.zeros(shape) if value is None else value.detach().float().cpu().clone().reshape(shape)
    return found


@contextmanager
def forgotten_accelerator() -> Iterator[None]:
    """Let accelerate start as if for the first time in this process; the process group stays."""
    from accelerate.state import AcceleratorState, GradientState

    def forget() -> None:
        AcceleratorState._reset_state(True)
        GradientState._reset_state()

    forget()
    try:
        yield
    finally:
        forget()

"""One loop for everything that is trained on labels: step, judge on val now and then, keep the best."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from msvl.evaluation.tuning.images import TrainingBatch


@dataclass(frozen=True)
class Plan:
    """How long, how fast and how often judged."""

    steps: int
    share: Callable[[int], float]
    """Step -> share of each group's peak learning rate."""
    clip: float
    """Largest gradient norm; 0 is none."""
    judged: int
    """Judgements, evenly over the steps; the last step is always judged."""

    def judge_now(self, step: int) -> bool:
        """Return whether the network is judged after `step` steps."""
        return step == self.steps or (step * self.judged) // self.steps > ((step - 1) * self.judged) // self.steps


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[TrainingBatch],
    plan: Plan,
    *,
    loss: Callable[[TrainingBatch], Tensor],
    judge: Callable[[], float],
) -> tuple[float, int]:
    """Train, and leave the network with the weights that judged best.

    Args:
        network: What is trained; put into training mode.
        optimizer: Its groups have a `peak`.
        batches: At least `plan.steps`.
        plan: How long.
        loss: Batch -> mean loss.
        judge: Larger is better; called in evaluation mode without gradients.

    Returns:
        The best judgement and the step after which it was taken.
    """
    best, best_step, weights = float("-inf"), 0, network.state_dict()
    for step, batch in enumerate(batches, start=1):
        network.train()
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * plan.share(step - 1)
        optimizer.zero_grad(set_to_none=True)
        loss(batch).backward()
        if plan.clip:
            nn.utils.clip_grad_norm_(network.parameters(), plan.clip)
        optimizer.step()
        if plan.judge_now(step):
            network.eval()
            with torch.no_grad():
                value = judge()
            if value > best:
                best, best_step = value, step
                weights = copy.deepcopy(network.state_dict())
    network.load_state_dict(weights)
    network.eval()
    return best, best_step


def build_optimizer(kind: str, groups: list[dict[str, Any]], *, momentum: float = 0.9) -> torch.optim.Optimizer:
    """Return sgd or adamw over groups."""
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=1.0, momentum=momentum)
    return torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights and dropped branches from a seed of their own; the global state is put back."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield

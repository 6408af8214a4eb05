"""What every objective has to pass, the shipped ones and anybody's: call `faults_of` in a test.

def test_margin() -> None:
    assert faults_of("mypkg.loss:Margin", {"margin": 0.3}) == []
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msvl.collectives.reduce import mean, mean_of
from msvl.collectives.world import rank, world_size
from msvl.objectives.config import ObjectivesConfig
from msvl.objectives.gathering import gather_embeddings
from msvl.objectives.scale import ScaleOutput, StepContext
from msvl.objectives.total import Objectives
from msvl.training.gradcheck.compare import Measured, compare, gradient_of
from msvl.training.gradcheck.made_up import (
    DUPLICATES,
    Sizes,
    leaves,
    make_embeddings,
    make_ids,
    on_meta,
    rows_of,
    trainable,
    with_leaves,
)
from msvl.training.gradcheck.processes import run_processes

NAME = "objective"
STEPS = {"none": 0, "some": 5, "lonely": 8}
"""Optimizer step of each kind of duplicates: noise is keyed by it."""
NUDGE, SLOPE_TOLERANCE = 1e-6, 1e-5
"""Finite differences in float64: the step, and what they may miss of the gradient's norm (both errors, of rounding and of
curvature, stay below 1e-8 for losses near 1)."""


def faults_of(
    path: str, options: dict[str, Any] | None = None, *, ranks: Sequence[int] = (2, 4), tolerance: float = 1e-5
) -> list[str]:
    """Return in words what is wrong with an objective of one's own; an empty list when nothing is.

    It must return a `ScaleOutput` of scalars whose loss carries a gradient; look at no value (else a GPU waits, and sizes
    depend on data); have the gradients that finite differences find in float64; and give on N ranks the losses, metrics and
    gradients of one, with collectives that all ranks make alike, for batches without and with duplicates. A gradient that is
    stopped by design shows as a difference to finite differences.

    Args:
        path: package.module:Class, as in `objectives.custom`.
        options: Of its constructor, as in `objectives.custom`.
        ranks: Numbers of processes to start, each a divisor of 8.
        tolerance: Of N ranks against one, relative, fp32.

    Raises:
        ConfigError: The class cannot be imported or is no module.
    """
    tree: dict[str, Any] = {scale: {"weight": 0} for scale in ("global", "local", "instance", "modality")}
    tree["custom"] = {NAME: {"class": path, "options": options or {}}}
    found = _answer_faults(_built(tree))
    if found:
        return found
    return [*_looks(_built(tree)), *_slope_faults(_built(tree).double()), *_rank_faults(tree, ranks, tolerance)]


def measure_objectives(tree: dict[str, Any], duplicates: str) -> Measured:
    """Collective. Return values and averaged gradients of the objectives on this rank's share of a made-up batch.

    Rank r has rows r, r + W, ... of the global batch, as the data stream deals them. Gradients are averaged over ranks, as
    DDP and ZeRO do; those of embeddings stand at their rows.

    Args:
        tree: Section `objectives` of a configuration.
        duplicates: One of DUPLICATES.
    """
    sizes = Sizes()
    rows = torch.arange(rank(), sizes.pairs, world_size())
    share, tensors = trainable(rows_of(make_embeddings(sizes), rows))
    objectives = _built(tree)
    values = objectives(share, rows_of(make_ids(sizes.pairs, duplicates), rows), STEPS[duplicates])
    values["total"].backward()
    gradients = {}
    for name, tensor in tensors.items():
        gradient = torch.zeros(sizes.pairs, *tensor.shape[1:])
        gradient[rows] = gradient_of(tensor)
        gradients[name] = mean(gradient)
    for name, parameter in objectives.named_parameters():
        gradients[name] = mean(gradient_of(parameter))
    return Measured(losses=mean_of(values), gradients={"total": gradients})


def _built(tree: dict[str, Any]) -> Objectives:
    """Return the objectives with the same weights at every call and on every rank."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Objectives(ObjectivesConfig.model_validate(tree), channels=Sizes().channels, seed=1)


def _answer_faults(objectives: Objectives) -> list[str]:
    sizes = Sizes()
    embeddings, _ = trainable(make_embeddings(sizes))
    ids = make_ids(sizes.pairs, "some")
    gathered = gather_embeddings(embeddings, ids, sentences=False)
    answer = objectives.scales[f"{NAME}_scale"](StepContext(embeddings=embeddings, ids=ids, gathered=gathered, step=0))
    if not isinstance(answer, ScaleOutput):
        return [f"its forward returned {type(answer).__name__}, expected a ScaleOutput"]
    found = []
    if answer.loss.shape != ():
        found.append(f"its loss has the shape {list(answer.loss.shape)}, expected a scalar: reduce it by its mean")
    if not answer.loss.requires_grad:
        found.append("its loss carries no gradient; is it computed under no_grad or detached?")
    for name, value in answer.metrics.items():
        if value.numel() != 1 or value.requires_grad:
            found.append(f"metric {name}: expected one number without gradient; detach it, and reduce it by its mean")
    return found


def _looks(objectives: Objectives) -> list[str]:
    sizes = Sizes()
    embeddings, ids = on_meta(make_embeddings(sizes)), on_meta(make_ids(sizes.pairs, "some"))
    try:
        objectives.to("meta")(embeddings, ids, 0)["total"].backward()
    except RuntimeError as error:  # NotImplementedError among them: what a tensor without values answers
        said = str(error).strip().partition("\n")[0]
        return [f"it looks at values or mixes devices, traced without values: {said}"]
    return []


def _slope_faults(objectives: Objectives) -> list[str]:
    """Compare with central differences along three directions in the space of all embeddings and parameters."""
    sizes = Sizes()
    start = make_embeddings(sizes, dtype=torch.float64)
    ids = make_ids(sizes.pairs, "some")
    places = leaves(start) | dict(objectives.named_parameters())
    embeddings, tensors = trainable(start)
    objectives(embeddings, ids, 0)["total"].backward()
    slopes = {name: leaf.grad for name, leaf in (tensors | dict(objectives.named_parameters())).items()}
    norm = torch.stack([slope.norm() for slope in slopes.values() if slope is not None]).norm().item()
    generator = torch.Generator().manual_seed(5)
    found = []
    for _ in range(3):
        direction = {name: torch.randn(value.shape, generator=generator).double() for name, value in places.items()}
        length = torch.stack([value.norm() for value in direction.values()]).norm()
        expected = sum(
            (slope * direction[name]).sum().item() for name, slope in slopes.items() if slope is not None
        ) / float(length)
        ends = [_moved_loss(objectives, start, ids, direction, side * NUDGE / float(length)) for side in (1, -1)]
        seen = (ends[0] - ends[1]) / (2 * NUDGE)
        if abs(seen - expected) > SLOPE_TOLERANCE * max(norm, 1e-3):
            found.append(
                f"its gradient says a slope of {expected:.6g} where finite differences find {seen:.6g} (float64)"
            )
    return found[:1]


def _moved_loss(objectives: Objectives, start: Any, ids: Any, direction: dict[str, Tensor], distance: float) -> float:
    """Return the loss at a place away from the start; the parameters are put back."""
    parameters = dict(objectives.named_parameters())
    moved = {name: value + distance * direction[name] for name, value in leaves(start).items()}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.add_(direction[name], alpha=distance)
        loss = objectives(with_leaves(start, moved), ids, 0)["total"].item()
        for name, parameter in parameters.items():
            parameter.sub_(direction[name], alpha=distance)
    return float(loss)


def _every_case(tree: dict[str, Any]) -> dict[str, Measured]:
    """Collective."""
    return {duplicates: measure_objectives(tree, duplicates) for duplicates in DUPLICATES}


def _rank_faults(tree: dict[str, Any], ranks: Sequence[int], tolerance: float) -> list[str]:
    if not ranks:
        return []
    one = run_processes(1, _every_case, tree)[0]
    found = []
    for world in ranks:
        many = run_processes(world, _every_case, tree)[0]
        for case in DUPLICATES:
            groups = {
                name: "own parameters" if name.startswith("scales.") else name for name in one[case].gradients["total"]
            }
            verdict = compare(one[case], many[case], ranks=world, tolerance=tolerance, groups=groups)
            if not verdict.right:
                found += [f"{world} ranks, {case} duplicates: {said}" for said in verdict.sentences()]
    return found

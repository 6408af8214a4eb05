"""The weighted sum, what is built for it, its metrics, precision and order of the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from msvl.objectives.config import ObjectivesConfig
from msvl.objectives.total import OBJECTIVES, Objectives
from msvl.training.gradcheck.made_up import (
    Sizes,
    leaves,
    make_embeddings,
    make_ids,
    on_meta,
    rows_of,
    trainable,
    with_leaves,
)

SIZES = Sizes()
NAMES = ("global", "local", "instance", "modality")
REQUIRED_METRICS = {
    "global_accuracy", "global_chance", "global_positive", "global_negative", "global_logit_scale",
    "local_accuracy", "local_chance", "one_sentence_share", "matching_accuracy_hard",
    "mae", "mae_mean_patch_error", "mlm", "mlm_accuracy", "excluded_share",
}  # fmt: skip


def build(**sections: dict[str, Any]) -> Objectives:
    torch.manual_seed(0)
    sections = {"modality": {"cross_sample_weight": 0.3}} | sections
    return Objectives(ObjectivesConfig(**sections), channels=SIZES.channels, seed=0)


def test_total_is_the_weighted_sum_of_the_four_scales() -> None:
    weights = {"global": 0.5, "local": 2.0, "instance": 3.0, "modality": 0.25}
    objectives = build(**{name: {"weight": weight} for name, weight in weights.items()})
    losses = objectives(make_embeddings(SIZES), make_ids(SIZES.pairs, "some"), 0)
    expected = sum(weights[name] * losses[name] for name in NAMES)
    assert losses["total"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert set(OBJECTIVES) == set(NAMES)


@pytest.mark.parametrize("off", NAMES)
def test_a_scale_of_weight_zero_is_neither_built_nor_computed(off: str) -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "some")
    whole = build(modality={"weight": 1.0})
    objectives = build(**{off: {"weight": 0}})
    losses = objectives(embeddings, ids, 0)
    assert off not in losses
    assert not [name for name, _ in objectives.named_parameters() if f"{off}_scale" in name]
    assert objectives.needs_reconstruction == (off != "modality")
    if off == "modality":
        objectives(replace(embeddings, reconstruction=None, masked_image=None, masked_text=None), ids, 0)
    assert {"total", *NAMES} - {off} <= set(whole(embeddings, ids, 0))


def test_metrics_that_the_log_needs_are_there_finite_and_without_gradient() -> None:
    embeddings, _ = trainable(make_embeddings(SIZES))
    losses = build()(embeddings, make_ids(SIZES.pairs, "some"), 0)
    metrics = {name.removeprefix("metric/"): value for name, value in losses.items() if name.startswith("metric/")}
    assert set(metrics) >= REQUIRED_METRICS
    assert all(torch.isfinite(value) and value.dim() == 0 and not value.requires_grad for value in metrics.values())
    assert {name for name in losses if not name.startswith("metric/")} == {"total", *NAMES}


def test_the_share_of_excluded_pairs_is_counted() -> None:
    ids = make_ids(SIZES.pairs, "none")
    ids.text[5] = ids.text[2]  # two of 64 pairs, one each way
    assert build()(make_embeddings(SIZES), ids, 0)["metric/excluded_share"].item() == pytest.approx(2 / 64)


def test_the_order_of_the_batch_does_not_matter() -> None:
    embeddings, ids = make_embeddings(SIZES, dtype=torch.float64), make_ids(SIZES.pairs, "some")
    order = torch.randperm(SIZES.pairs, generator=torch.Generator().manual_seed(1))
    objectives = build().double()
    one = objectives(embeddings, ids, 2)
    other = objectives(rows_of(embeddings, order), rows_of(ids, order), 2)
    for name, value in one.items():
        assert other[name].item() == pytest.approx(value.item(), rel=1e-6, abs=1e-9), name


def test_bf16_embeddings_are_computed_in_fp32() -> None:
    ids = make_ids(SIZES.pairs, "some")
    half = make_embeddings(SIZES, dtype=torch.bfloat16)
    widened = with_leaves(half, {name: value.float() for name, value in leaves(half).items()})
    assert half.reconstruction is not None
    assert widened.reconstruction is not None
    target = half.reconstruction.patch_target.float()
    widened = replace(widened, reconstruction=replace(widened.reconstruction, patch_target=target))
    objectives = build()
    one, other = objectives(half, ids, 0), objectives(widened, ids, 0)
    assert one["total"].dtype == torch.float32
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_autocast_does_not_reach_the_losses() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "some")
    objectives = build()
    plain = objectives(embeddings, ids, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = objectives(embeddings, ids, 0)
    assert all(torch.equal(plain[name], cast[name]) for name in plain)


def test_no_parameter_is_zero_dimensional() -> None:
    # DeepSpeed 0.19 fails on those at start.
    assert all(parameter.dim() > 0 for parameter in build().parameters())


def test_forward_reads_no_value_back_to_the_host() -> None:
    embeddings, ids = on_meta(make_embeddings(SIZES)), on_meta(make_ids(SIZES.pairs, "some"))
    losses = build().to("meta")(embeddings, ids, 0)
    assert all(value.is_meta for value in losses.values())

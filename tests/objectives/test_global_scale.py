"""L_g against the paper's equation, the published loss, and its corner cases."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from msvl.objectives.config import GlobalScaleConfig
from msvl.objectives.global_scale import GlobalScale
from msvl.training.gradcheck.made_up import Sizes, make_embeddings, make_ids, rows_of, trainable
from tests.helpers import reference
from tests.objectives.one_rank import as_lists, close, make_context, run_scale

SIZES = Sizes()


def build(**options: object) -> GlobalScale:
    return GlobalScale(GlobalScaleConfig(**options), channels=SIZES.channels, seed=0)


@pytest.mark.parametrize("duplicates", ["exclude", "keep"])
def test_loss_and_gradients_are_the_equations(duplicates: str) -> None:
    ids = make_ids(SIZES.pairs, "some")
    allowed = reference.allowed_pairs(*as_lists(ids)) if duplicates == "exclude" else reference.everything(SIZES.pairs)
    embeddings, tensors = trainable(make_embeddings(SIZES, dtype=torch.float64))
    scale = build(duplicates=duplicates).double()
    loss = run_scale(scale, embeddings, ids).loss
    loss.backward()

    image, text = (tensors[name].detach().clone().requires_grad_() for name in ("image", "text"))
    logarithm = scale.scale.logit_scale.detach().clone().requires_grad_()
    expected = reference.global_loss(image, text, logarithm.exp()[0], allowed)
    expected.backward()
    assert close(loss, expected)
    assert close(tensors["image"].grad, image.grad)
    assert close(tensors["text"].grad, text.grad)
    assert close(scale.scale.logit_scale.grad, logarithm.grad)


def test_gradients_pass_finite_differences() -> None:
    sizes = Sizes(pairs=4, channels=3)
    embeddings, ids = make_embeddings(sizes, dtype=torch.float64), make_ids(4, "some")
    scale = build().double()

    def loss(image: torch.Tensor, text: torch.Tensor, logarithm: torch.Tensor) -> torch.Tensor:
        whole = replace(embeddings, image=image, text=text)
        parameters = {"scale.logit_scale": logarithm}
        return functional_call(scale, parameters, (make_context(whole, ids),)).loss

    inputs = (embeddings.image, embeddings.text, scale.scale.logit_scale.detach())
    assert torch.autograd.gradcheck(loss, [value.clone().requires_grad_() for value in inputs])


def test_temperature_starts_at_the_configured_value_and_is_learnt_in_a_parameter_of_one_element() -> None:
    scale = build(temperature=0.07)
    (parameter,) = scale.parameters()
    assert parameter.shape == (1,)
    assert math.isclose(scale.scale().item(), 1 / 0.07, rel_tol=1e-6)


def test_logits_are_bounded_and_nothing_overflows() -> None:
    embeddings, tensors = trainable(make_embeddings(SIZES))
    scale = build()
    with torch.no_grad():
        scale.scale.logit_scale.fill_(80.0)
    output = run_scale(scale, embeddings, make_ids(SIZES.pairs, "none"))
    output.loss.backward()
    assert output.metrics["global_logit_scale"] == pytest.approx(100.0)
    assert torch.isfinite(output.loss)
    assert torch.isfinite(tensors["image"].grad).all()


def test_an_excluded_duplicate_neither_counts_nor_gets_a_gradient_from_its_double() -> None:
    ids = make_ids(SIZES.pairs, "none")
    ids.text[3] = ids.text[0]
    embeddings, _ = trainable(make_embeddings(SIZES, dtype=torch.float64))
    pair = torch.tensor([0, 3])
    two, tensors = trainable(rows_of(embeddings, pair))
    loss = run_scale(build(), two, rows_of(ids, pair)).loss
    loss.backward()
    assert loss == 0  # no candidate but the own one is left
    assert not tensors["text"].grad.any()
    whole = run_scale(build(), embeddings, ids).loss
    assert whole < run_scale(build(duplicates="keep"), embeddings, ids).loss


def test_at_collapse_the_loss_is_its_chance_value() -> None:
    embeddings = make_embeddings(SIZES)
    same = replace(
        embeddings, image=embeddings.image[:1].expand(8, -1), text=embeddings.image[:1].expand(8, -1)
    )  # fmt: skip
    for kind in ("none", "some"):
        output = run_scale(build(), same, make_ids(SIZES.pairs, kind))
        assert output.loss.item() == pytest.approx(output.metrics["global_chance"].item(), rel=1e-6)
    assert run_scale(build(), same, make_ids(8, "none")).metrics["global_chance"].item() == pytest.approx(
        2 * math.log(8)
    )


def test_metrics_of_perfect_embeddings() -> None:
    embeddings = make_embeddings(Sizes(pairs=6, channels=6))
    perfect = replace(embeddings, image=torch.eye(6), text=torch.eye(6))
    metrics = run_scale(build(temperature=0.1), perfect, make_ids(6, "none")).metrics
    assert metrics["global_accuracy"] == 1
    assert metrics["global_positive"].item() == pytest.approx(10)
    assert metrics["global_negative"].item() == pytest.approx(0)


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_reports_that_read_the_same_can_be_further_positives(loss: str) -> None:
    ids = make_ids(SIZES.pairs, "some")
    embeddings, tensors = trainable(make_embeddings(SIZES, dtype=torch.float64))
    scale = build(duplicates="positive", loss=loss, sigmoid_bias=-1.0).double()
    found = run_scale(scale, embeddings, ids).loss
    found.backward()

    image, text = (tensors[name].detach().clone().requires_grad_() for name in ("image", "text"))
    positive = ids.read.unsqueeze(1) == ids.read.unsqueeze(0)
    allowed = torch.tensor(reference.allowed_pairs(*as_lists(ids))) | positive
    logits = (image @ text.T) * scale.scale().detach()
    if loss == "sigmoid":
        signs = 2 * positive.double() - 1
        terms = torch.log1p(torch.exp(-signs * (logits - 1.0)))
        expected = (terms * allowed).sum(dim=1).mean()
    else:
        ways = []
        for one in (logits, logits.T):
            share = one.exp() / (one.exp() * allowed).sum(dim=1, keepdim=True)
            ways.append(-((share.log() * positive).sum(dim=1) / positive.sum(dim=1)).mean())
        expected = ways[0] + ways[1]
    expected.backward()
    assert close(found, expected)
    assert close(tensors["image"].grad, image.grad)
    assert close(tensors["text"].grad, text.grad)

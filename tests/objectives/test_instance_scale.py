"""L_im: ALBEF's draw over the global batch, and the binary cross entropy of the matching head."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from msvl.models.noise import hash_uniform
from msvl.objectives.config import InstanceScaleConfig
from msvl.objectives.instance_scale import InstanceScale, draw_negatives
from msvl.training.gradcheck.made_up import Sizes, make_embeddings, make_ids, trainable
from tests.helpers import reference
from tests.objectives.one_rank import as_lists, close, make_context, run_scale

SIZES = Sizes()
REPEATS = 4000


def build(channels: int = SIZES.channels, **options: object) -> InstanceScale:
    torch.manual_seed(0)
    return InstanceScale(InstanceScaleConfig(**options), channels=channels, seed=4)


def drawn_shares(similarity: Tensor, candidates: Tensor, *, temperature: float) -> Tensor:
    """Return [b, G]: how often each candidate was drawn in REPEATS steps."""
    b, g = similarity.shape
    noise = hash_uniform(
        0, torch.arange(REPEATS).reshape(-1, 1, 1), torch.arange(b).reshape(1, -1, 1), torch.arange(g).reshape(1, 1, -1)
    )
    chosen = [draw_negatives(similarity, candidates, one, temperature=temperature)[0] for one in noise]
    return torch.nn.functional.one_hot(torch.stack(chosen), g).double().mean(dim=0)


def test_negatives_follow_albefs_probabilities() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "some")
    similarity = embeddings.image @ embeddings.text.T
    allowed = reference.allowed_pairs(*as_lists(ids))
    expected = reference.negative_probabilities(similarity, allowed, 0.3)
    candidates = torch.tensor(allowed) & ~torch.eye(SIZES.pairs, dtype=torch.bool)
    shares = drawn_shares(similarity, candidates, temperature=0.3)
    # Five standard deviations of a share of REPEATS draws.
    bound = 5 * (expected * (1 - expected) / REPEATS).sqrt() + 1e-9
    assert ((shares - expected).abs() <= bound).all()
    assert not shares[~candidates].any()


def test_a_negative_never_shares_text_study_or_patient() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "some")
    scale = build(temperature=0.5)
    seen = set()
    for step in range(200):
        for chosen, valid in scale.negatives(make_context(embeddings, ids, step=step)):
            assert valid.all()
            for kind in (ids.sample, ids.text, ids.study, ids.patient):
                assert not (kind[chosen] == kind).any()
            seen |= set(enumerate(chosen.tolist()))
    allowed = torch.tensor(reference.allowed_pairs(*as_lists(ids)))
    assert len(seen) > 0.8 * (int(allowed.sum()) - SIZES.pairs)


def test_keep_draws_from_every_other_pair() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "some")
    scale = build(temperature=1.0, duplicates="keep")
    seen = set()
    for step in range(400):
        for chosen, valid in scale.negatives(make_context(embeddings, ids, step=step)):
            assert valid.all()
            seen |= set(enumerate(chosen.tolist()))
    assert seen == {(row, other) for row in range(SIZES.pairs) for other in range(SIZES.pairs) if other != row}


def test_draws_change_with_step_and_seed_and_the_two_directions_differ() -> None:
    sizes = Sizes(pairs=32)
    context = [make_context(make_embeddings(sizes), make_ids(32, "none"), step=step) for step in (0, 1)]
    scale = build(temperature=1.0)
    (report, _), (image, _) = scale.negatives(context[0])
    assert not torch.equal(report, scale.negatives(context[1])[0][0])
    assert not torch.equal(report, image)
    other = InstanceScale(InstanceScaleConfig(temperature=1.0), channels=sizes.channels, seed=5)
    assert not torch.equal(report, other.negatives(context[0])[0][0])


@pytest.mark.parametrize("duplicates", ["some", "lonely"])
def test_loss_and_gradients_are_binary_cross_entropy_over_the_pairs(duplicates: str) -> None:
    ids = make_ids(SIZES.pairs, duplicates)
    embeddings, tensors = trainable(make_embeddings(SIZES, dtype=torch.float64))
    scale = build(width=5).double()
    context = make_context(embeddings, ids, step=3)
    loss = scale(context).loss
    loss.backward()

    image, text = (tensors[name].detach().clone().requires_grad_() for name in ("image", "text"))
    head = {name: value.detach().clone().requires_grad_() for name, value in scale.named_parameters()}
    (report, has_report), (other, has_image) = scale.negatives(context)
    pairs = [(image[i], text[i], 1) for has in (has_report, has_image) for i in range(SIZES.pairs) if has[i]]
    pairs += [(image[i], text[report[i]], 0) for i in range(SIZES.pairs) if has_report[i]]
    pairs += [(image[other[i]], text[i], 0) for i in range(SIZES.pairs) if has_image[i]]
    assert len(pairs) == 4 * SIZES.pairs - (4 if duplicates == "lonely" else 0)
    expected = reference.instance_loss(pairs, head, SIZES.channels**0.5)
    expected.backward()
    assert close(loss, expected)
    assert close(tensors["image"].grad, image.grad)
    assert close(tensors["text"].grad, text.grad)
    for name, parameter in scale.named_parameters():
        assert close(parameter.grad, head[name].grad), name


def test_gradients_pass_finite_differences() -> None:
    sizes = Sizes(pairs=4, channels=3)
    embeddings, ids = make_embeddings(sizes, dtype=torch.float64), make_ids(4, "none")
    scale = build(channels=3, width=4).double()
    names, values = zip(*scale.named_parameters(), strict=True)

    def loss(image: Tensor, text: Tensor, *parameters: Tensor) -> Tensor:
        context = make_context(replace(embeddings, image=image, text=text), ids)
        return functional_call(scale, dict(zip(names, parameters, strict=True)), (context,)).loss

    inputs = (embeddings.image, embeddings.text, *values)
    assert torch.autograd.gradcheck(loss, [value.detach().clone().requires_grad_() for value in inputs])


def test_without_any_admissible_negative_the_loss_is_zero_and_nothing_is_nan() -> None:
    ids = make_ids(SIZES.pairs, "none")
    ids.patient[:] = 1
    embeddings, tensors = trainable(make_embeddings(SIZES))
    output = run_scale(build(), embeddings, ids)
    output.loss.backward()
    assert output.loss == 0
    assert not tensors["image"].grad.any()
    assert all(math.isfinite(value) for value in output.metrics.values())


def test_accuracy_on_hard_negatives_is_balanced_between_true_pairs_and_negatives() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "none")
    scale = build()
    with torch.no_grad():
        scale.output.weight.zero_()
        scale.output.bias.fill_(1.0)  # calls everything a pair
    metrics = run_scale(scale, embeddings, ids).metrics
    assert metrics["matching_accuracy_true_pairs"] == 1
    assert metrics["matching_accuracy_negatives"] == 0
    assert metrics["matching_accuracy_hard"] == 0.5

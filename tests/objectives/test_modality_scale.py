"""L_mr: reconstruction, masked language modelling, and the cross-sample term."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from msvl.models.outputs import Embeddings
from msvl.objectives.config import ModalityScaleConfig
from msvl.objectives.modality_scale import ModalityScale
from msvl.training.gradcheck.made_up import Sizes, leaves, make_embeddings, make_ids, trainable, with_leaves
from tests.helpers import reference
from tests.objectives.one_rank import as_lists, close, make_context, run_scale

SIZES = Sizes()


def build(**options: object) -> ModalityScale:
    return ModalityScale(ModalityScaleConfig(**options), channels=SIZES.channels, seed=0)


def expected_loss(embeddings: Embeddings, scale: ModalityScale, allowed: list[list[bool]], **weights: float) -> Tensor:
    parts = embeddings.reconstruction
    assert parts is not None
    loss = weights["image"] * reference.reconstruction_loss(parts.patch_prediction, parts.patch_target)
    loss = loss + weights["text"] * reference.masked_token_loss(parts.token_logits, parts.token_labels)
    if weights["cross"]:
        scales = {name: parameter.exp()[0] for name, parameter in scale.named_parameters()}
        pairs = (
            ("image", embeddings.masked_image, embeddings.image),
            ("text", embeddings.masked_text, embeddings.text),
        )
        for name, masked, whole in pairs:
            term = reference.cross_sample_loss(masked, whole, scales[f"{name}_scale.logit_scale"], allowed)
            loss = loss + weights["cross"] * term
    return loss


@pytest.mark.parametrize("duplicates", ["exclude", "keep"])
@pytest.mark.parametrize("cross", [0.0, 0.3])
def test_loss_and_gradients_are_the_equations(duplicates: str, cross: float) -> None:
    ids = make_ids(SIZES.pairs, "some")
    allowed = reference.allowed_pairs(*as_lists(ids)) if duplicates == "exclude" else reference.everything(SIZES.pairs)
    embeddings, tensors = trainable(make_embeddings(SIZES, dtype=torch.float64))
    scale = build(image_weight=0.5, text_weight=2.0, cross_sample_weight=cross, duplicates=duplicates).double()
    loss = run_scale(scale, embeddings, ids).loss
    loss.backward()
    found = {name: tensor.grad for name, tensor in tensors.items() if tensor.grad is not None}
    found |= {name: parameter.grad.clone() for name, parameter in scale.named_parameters()}

    again, same = trainable(embeddings)
    scale.zero_grad()
    expected = expected_loss(again, scale, allowed, image=0.5, text=2.0, cross=cross)
    expected.backward()
    same |= dict(scale.named_parameters())
    assert close(loss, expected)
    assert set(found) == {name for name, tensor in same.items() if tensor.grad is not None}
    for name, gradient in found.items():
        assert close(gradient, same[name].grad), name


def test_gradients_pass_finite_differences() -> None:
    sizes = Sizes(pairs=3, channels=3, hidden_patches=2, pixels=2, places=2, vocabulary=3)
    embeddings, ids = make_embeddings(sizes, dtype=torch.float64), make_ids(3, "none")
    scale = build(cross_sample_weight=0.5).double()
    names = ["image", "text", "masked_image", "masked_text", "patch_prediction", "token_logits"]
    parameters, values = zip(*scale.named_parameters(), strict=True)

    def loss(*inputs: Tensor) -> Tensor:
        context = make_context(with_leaves(embeddings, dict(zip(names, inputs, strict=False))), ids)
        return functional_call(scale, dict(zip(parameters, inputs[len(names) :], strict=True)), (context,)).loss

    found = leaves(embeddings)
    inputs = [*(found[name] for name in names), *values]
    assert torch.autograd.gradcheck(loss, [value.detach().clone().requires_grad_() for value in inputs])


@pytest.mark.evidence("Cross-sample weight 0 is the paper's modality objective to the bit", how="cpu")
def test_cross_sample_weight_zero_is_the_papers_objective_to_the_bit() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "some")
    scale = build(cross_sample_weight=0)
    output = run_scale(scale, embeddings, ids)
    parts = embeddings.reconstruction
    assert parts is not None
    image = (parts.patch_prediction - parts.patch_target).square().mean()
    labels = parts.token_labels.flatten()
    text = torch.nn.functional.cross_entropy(
        parts.token_logits.flatten(0, 1), labels, ignore_index=-100, reduction="sum"
    )
    assert torch.equal(output.loss, image + text / (labels != -100).sum())
    assert not list(scale.parameters())
    assert not [name for name in output.metrics if name.startswith("cross_sample")]
    without = replace(embeddings, masked_image=None, masked_text=None)
    assert torch.equal(run_scale(scale, without, ids).loss, output.loss)


def test_unused_places_of_the_token_capacity_take_no_part() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "none")
    parts = embeddings.reconstruction
    assert parts is not None
    unused = parts.token_labels == -100
    dirty = parts.token_logits.masked_fill(unused.unsqueeze(-1), 1e4)
    filled, tensors = trainable(replace(embeddings, reconstruction=replace(parts, token_logits=dirty)))
    output = run_scale(build(), filled, ids)
    output.loss.backward()
    assert torch.equal(output.loss, run_scale(build(), embeddings, ids).loss)
    assert not tensors["token_logits"].grad[unused].any()


def test_a_batch_without_any_masked_token_gives_zero_and_not_nan() -> None:
    embeddings = make_embeddings(SIZES)
    parts = embeddings.reconstruction
    assert parts is not None
    none = replace(embeddings, reconstruction=replace(parts, token_labels=torch.full_like(parts.token_labels, -100)))
    assert run_scale(build(), none, make_ids(SIZES.pairs, "none")).metrics["mlm"] == 0


def test_the_error_of_the_mean_patch_is_the_variance_of_the_targets_about_it() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "none")
    parts = embeddings.reconstruction
    assert parts is not None
    target = torch.tensor([1.0, -1.0]).repeat(12).reshape(8, 3, 1) + torch.tensor([5.0, 0.0])
    guess = torch.tensor([5.0, 0.0]).expand(8, 3, 2)
    parts = replace(parts, patch_target=target, patch_prediction=guess)
    metrics = run_scale(build(), replace(embeddings, reconstruction=parts), ids).metrics
    assert metrics["mae_mean_patch_error"].item() == pytest.approx(1.0)
    assert metrics["mae"].item() == pytest.approx(1.0)


def test_accuracy_counts_masked_tokens_only() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "none")
    parts = embeddings.reconstruction
    assert parts is not None
    labels = torch.full_like(parts.token_labels, -100)
    labels[0, :4] = torch.tensor([1, 2, 3, 4])
    logits = torch.nn.functional.one_hot(torch.tensor([1, 2, 3, 0]), SIZES.vocabulary).float().expand(8, 4, -1)
    parts = replace(parts, token_labels=labels, token_logits=logits)
    metrics = run_scale(build(), replace(embeddings, reconstruction=parts), ids).metrics
    assert metrics["mlm_accuracy"].item() == 0.75


def test_at_collapse_the_cross_sample_terms_are_at_chance() -> None:
    embeddings = make_embeddings(SIZES)
    one = embeddings.image[:1].expand(8, -1)
    same = replace(embeddings, image=one, text=one, masked_image=one, masked_text=one)
    metrics = run_scale(build(cross_sample_weight=1), same, make_ids(8, "some")).metrics
    for name in ("image", "text"):
        assert metrics[f"cross_sample_{name}"].item() == pytest.approx(metrics["cross_sample_chance"].item(), rel=1e-6)


def test_missing_passes_are_refused_by_name() -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "none")
    with pytest.raises(ValueError, match="reconstruction"):
        run_scale(build(), replace(embeddings, reconstruction=None), ids)
    with pytest.raises(ValueError, match="masked pair"):
        run_scale(build(cross_sample_weight=1), replace(embeddings, masked_text=None), ids)

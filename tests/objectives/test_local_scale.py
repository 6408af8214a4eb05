"""L_l against GLoRIA's definition with sentences as units, padding, and one-sentence reports."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from msvl.objectives.config import LocalScaleConfig
from msvl.objectives.local_alignment import matching_scores
from msvl.objectives.local_scale import LocalScale
from msvl.training.gradcheck.made_up import Sizes, make_embeddings, make_ids, trainable
from tests.helpers import reference
from tests.objectives.one_rank import as_lists, close, make_context, run_scale

SIZES = Sizes(pairs=6)
TEMPS = (4.0, 5.0, 10.0)
FIRST: dict = {"temp1": 4.0, "temp2": 5.0, "over_units_first": True}
GLORIA: dict = {"temp1": 4.0, "temp2": 5.0, "normalise_over": "units_then_patches"}


def build(**options: object) -> LocalScale:
    return LocalScale(LocalScaleConfig(**options), channels=SIZES.channels, seed=0)


@pytest.mark.parametrize("duplicates", ["exclude", "keep"])
@pytest.mark.parametrize("normalise_over", ["units_then_patches", "patches"])
@pytest.mark.parametrize("unit_length", [False, True])
def test_loss_and_gradients_are_the_definition(duplicates: str, normalise_over: str, unit_length: bool) -> None:
    ids = make_ids(SIZES.pairs, "some")
    allowed = reference.allowed_pairs(*as_lists(ids)) if duplicates == "exclude" else reference.everything(SIZES.pairs)
    embeddings, tensors = trainable(make_embeddings(SIZES, dtype=torch.float64))
    scale = build(duplicates=duplicates, normalise_over=normalise_over, unit_length=unit_length, tile=4)
    loss = run_scale(scale, embeddings, ids).loss
    loss.backward()

    patches, sentences = (tensors[name].detach().clone().requires_grad_() for name in ("patches", "sentences"))
    reports = [report[mask] for report, mask in zip(sentences, embeddings.sentence_mask, strict=True)]
    first = normalise_over == "units_then_patches"
    images = patches / patches.norm(dim=-1, keepdim=True) if unit_length else patches
    if unit_length:
        reports = [report / report.norm(dim=-1, keepdim=True) for report in reports]
    expected = reference.local_loss(images, reports, allowed, temps=TEMPS, over_units_first=first)
    expected.backward()
    assert close(loss, expected)
    assert close(tensors["patches"].grad, patches.grad)
    assert close(tensors["sentences"].grad, sentences.grad)


def test_the_mean_over_sentences_does_not_favour_reports_with_many() -> None:
    embeddings, ids = make_embeddings(SIZES, dtype=torch.float64), make_ids(SIZES.pairs, "none")
    reports = [report[mask] for report, mask in zip(embeddings.sentences, embeddings.sentence_mask, strict=True)]
    score = [
        [10 * (reference.matching(image, report, **FIRST) - math.log(len(report))) for report in reports]
        for image in embeddings.patches
    ]
    expected = reference.two_way(score, reference.everything(SIZES.pairs))
    assert close(run_scale(build(aggregation="mean"), embeddings, ids).loss, expected)
    doubled = replace(embeddings, sentences=torch.cat([embeddings.sentences] * 2, dim=1))
    doubled = replace(doubled, sentence_mask=torch.cat([embeddings.sentence_mask] * 2, dim=1))
    # Said twice, a report is the same report: exactly so over patches, where sentences do not compete.
    free = build(aggregation="mean", normalise_over="patches")
    assert close(run_scale(free, doubled, ids).loss, run_scale(free, embeddings, ids).loss)


def test_gradients_pass_finite_differences() -> None:
    sizes = Sizes(pairs=3, channels=3, patches=4, sentences=2)
    embeddings, ids = make_embeddings(sizes, dtype=torch.float64), make_ids(3, "none")
    scale = build(tile=2)

    def loss(patches: Tensor, sentences: Tensor) -> Tensor:
        return scale(make_context(replace(embeddings, patches=patches, sentences=sentences), ids)).loss

    inputs = (embeddings.patches, embeddings.sentences)
    assert torch.autograd.gradcheck(loss, [value.clone().requires_grad_() for value in inputs])


@pytest.mark.parametrize("garbage", [1.0, -300.0, 1e6])
def test_padding_sentences_take_part_nowhere(garbage: float) -> None:
    embeddings, ids = make_embeddings(SIZES), make_ids(SIZES.pairs, "some")
    dirty = torch.where(embeddings.sentence_mask.unsqueeze(-1), embeddings.sentences, torch.tensor(garbage))
    clean, clean_leaves = trainable(embeddings)
    filled, filled_leaves = trainable(replace(embeddings, sentences=dirty))
    outputs = [run_scale(build(), one, ids) for one in (clean, filled)]
    for output in outputs:
        output.loss.backward()
    assert outputs[0].loss == outputs[1].loss
    assert torch.equal(clean_leaves["patches"].grad, filled_leaves["patches"].grad)
    assert torch.equal(clean_leaves["sentences"].grad, filled_leaves["sentences"].grad)
    assert not filled_leaves["sentences"].grad[~embeddings.sentence_mask].any()


def test_more_room_for_sentences_changes_nothing() -> None:
    embeddings, ids = make_embeddings(SIZES, dtype=torch.float64), make_ids(SIZES.pairs, "none")
    wider = replace(
        embeddings,
        sentences=torch.nn.functional.pad(embeddings.sentences, (0, 0, 0, 5)),
        sentence_mask=torch.nn.functional.pad(embeddings.sentence_mask, (0, 5)),
    )
    assert close(run_scale(build(), wider, ids).loss, run_scale(build(), embeddings, ids).loss, tolerance=1e-13)


def test_the_tile_changes_memory_and_not_numbers() -> None:
    ids = make_ids(SIZES.pairs, "some")
    found = []
    for tile in (1, 4, 100):
        embeddings, tensors = trainable(make_embeddings(SIZES, dtype=torch.float64))
        loss = run_scale(build(tile=tile), embeddings, ids).loss
        loss.backward()
        found.append((loss.detach(), tensors["patches"].grad, tensors["sentences"].grad))
    for other in found[1:]:
        assert all(close(a, b, tolerance=1e-12) for a, b in zip(found[0], other, strict=True))


def test_a_report_of_one_sentence_attends_everywhere_alike_by_glorias_definition() -> None:
    embeddings = make_embeddings(SIZES, dtype=torch.float64)
    one = torch.zeros(1, SIZES.sentences, dtype=torch.bool)
    one[:, 0] = True
    score = matching_scores(embeddings.patches, embeddings.sentences[:1], one, **GLORIA)
    mean = embeddings.patches.mean(dim=1)
    expected = 5.0 * torch.cosine_similarity(mean, embeddings.sentences[0, 0], dim=1)
    assert close(score[:, 0], expected)
    over_patches = matching_scores(
        embeddings.patches, embeddings.sentences[:1], one, **{**GLORIA, "normalise_over": "patches"}
    )
    assert (over_patches - score).abs().min() > 1e-3


def test_reports_of_one_sentence_are_counted() -> None:
    embeddings = make_embeddings(Sizes(pairs=8, sentences=4))  # 1, 2, 3, 4, 1, 2, 3, 4 sentences
    metrics = run_scale(build(), embeddings, make_ids(8, "none")).metrics
    assert metrics["one_sentence_share"] == 0.25
    assert metrics["sentences_per_report"] == 2.5


def test_nothing_overflows_at_large_scales() -> None:
    embeddings = make_embeddings(SIZES)
    large, tensors = trainable(
        replace(embeddings, patches=1e3 * embeddings.patches, sentences=1e3 * embeddings.sentences)
    )
    scale = build(attention_temperature=1e3, unit_temperature=1e3, logit_scale=1e3)
    loss = run_scale(scale, large, make_ids(SIZES.pairs, "some")).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(tensors[name].grad).all() for name in ("patches", "sentences"))


def test_at_collapse_the_loss_is_its_chance_value() -> None:
    embeddings = make_embeddings(SIZES)
    same = replace(
        embeddings,
        patches=torch.ones_like(embeddings.patches),
        sentences=torch.ones_like(embeddings.sentences),
        sentence_mask=torch.ones_like(embeddings.sentence_mask),
    )
    output = run_scale(build(), same, make_ids(SIZES.pairs, "some"))
    assert output.loss.item() == pytest.approx(output.metrics["local_chance"].item(), rel=1e-5)

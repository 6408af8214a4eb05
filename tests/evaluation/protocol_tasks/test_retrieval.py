"""Retrieval by a card: which way, whose text, one image per study, folds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from msvl.evaluation.bootstrap import Bootstrap, mean_statistic
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.protocol import Card
from msvl.evaluation.protocol_tasks.retrieval import run
from msvl.evaluation.recipes import RetrievalRecipe

CONFIG = EvaluationConfig(resamples=100)
PATIENTS = 15


def card(fold: int | None = None) -> Card:
    return Card(task="retrieval", data="any", headline="report_r5", retrieval=RetrievalRecipe(fold=fold))


def exam(texts: list[str], *, studies: list[str] | None = None, seed: int = 0) -> Any:
    """An exam of random embeddings, three rows a patient."""
    generator = torch.Generator().manual_seed(seed)
    image, reports = (functional.normalize(torch.randn(len(texts), 4, generator=generator), dim=1) for _ in range(2))
    rows = range(len(texts))
    test = SimpleNamespace(
        studies=studies or [f"s{row}" for row in rows], sentences=[[text] for text in texts],
        patients=[f"p{row // 3}" for row in rows], keys=[f"k{row}" for row in rows],
    )  # fmt: skip
    return SimpleNamespace(
        splits=SimpleNamespace(test=test), features=lambda split: SimpleNamespace(image=image), reports=lambda: reports
    )


def plain_hits(queries: Tensor, gallery: Tensor, texts: list[str], depth: int) -> np.ndarray:
    """Whether a report with the query's text is among the `depth` nearest, one query after the other [N]."""
    hits = []
    for query, text in zip(queries.double().numpy(), texts, strict=True):
        order = np.argsort(-(gallery.double().numpy() @ query))
        hits.append(any(texts[place] == text for place in order[:depth]))
    return np.asarray(hits, dtype=float)


TEXTS = [("Lungs clear.", f"Nodule {row}.", "No effusion.")[row % 3] for row in range(3 * PATIENTS)]


@pytest.mark.parametrize("depth", [1, 5, 10])
def test_equal_texts_are_hits_both_ways(depth: int) -> None:
    own = exam(TEXTS)
    figures = run(own, card(), CONFIG).figures
    image, reports = own.features("test").image, own.reports()
    found = {"report": plain_hits(image, reports, TEXTS, depth), "image": plain_hits(reports, image, TEXTS, depth)}
    assert found["report"].mean() != found["image"].mean()
    for side, hits in found.items():
        assert figures[f"{side}_r{depth}"] == pytest.approx(hits.mean())
        by_patient = Bootstrap(own.splits.test.patients, resamples=100).interval(mean_statistic(hits))
        assert figures[f"{side}_r{depth}_interval"] == pytest.approx(by_patient)
    assert (figures["gallery"], figures["distinct_texts"]) == (45, 17)


def test_the_median_rank_is_that_of_the_best_equal_text() -> None:
    own = exam([f"Nodule {row}." for row in range(9)], seed=2)
    similarity = own.features("test").image.double() @ own.reports().double().T
    ranks = 1 + (similarity > similarity.diagonal()[:, None]).sum(dim=1)
    assert ranks.double().mean() != ranks.double().median()
    assert run(own, card(), CONFIG).figures["report_median_rank"] == float(np.median(ranks.numpy()))


def test_a_study_takes_part_with_its_first_image() -> None:
    studies = [f"s{row // 2}" for row in range(20)]
    texts = [f"Nodule {row // 2}." for row in range(20)]
    own = exam(texts, studies=studies)
    first = list(range(0, 20, 2))
    expected = plain_hits(own.features("test").image[first], own.reports()[first], texts[::2], 1).mean()
    answer = run(own, card(), CONFIG)
    assert answer.figures["gallery"] == 10
    assert answer.figures["report_r1"] == pytest.approx(expected)
    assert answer.columns["report_r1"].keys == tuple(f"k{row}" for row in first)


def test_folds_are_whole_and_the_mean_over_them_counts() -> None:
    # Every text is another and every image's own report the nearest, unless a nearer one is in the gallery: in folds of
    # two, of 7 studies, three folds are judged and one study is left out.
    own = exam([f"Nodule {row}." for row in range(7)], seed=3)
    figures = run(own, card(fold=2), CONFIG).figures
    order = np.random.default_rng(CONFIG.seed).permutation(7)
    image, reports = own.features("test").image, own.reports()
    means = []
    for start in (0, 2, 4):
        part = order[start : start + 2]
        means.append(plain_hits(image[part], reports[part], [f"Nodule {row}." for row in part], 1).mean())
    assert figures["report_r1_fold"] == pytest.approx(np.mean(means))
    assert figures["report_r1_fold"] > figures["report_r1"]
    assert "report_r1_fold" not in run(own, card(), CONFIG).figures

"""AUC against scikit-learn, retrieval against hand-counted cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, top_k_accuracy_score

from msvl.evaluation.metrics import auc, chance_recall, expected_rank, hit_places, recall_at, weighted_auc


@pytest.mark.parametrize("levels", [3, 10, 10_000])
def test_auc_equals_scikit_learn_with_few_and_many_ties(levels: int) -> None:
    generator = np.random.default_rng(levels)
    labels = generator.integers(0, 2, 300)
    scores = generator.integers(0, levels, 300) / levels + 0.2 * labels.round()
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_auc_of_a_constant_score_is_one_half() -> None:
    assert auc(np.array([1, 0, 1, 0, 0]), np.zeros(5)) == 0.5


def test_auc_without_negatives_is_undefined() -> None:
    assert math.isnan(auc(np.array([1, 1]), np.array([0.1, 0.2])))


def test_auc_of_nothing_is_undefined() -> None:
    assert math.isnan(auc(np.zeros(0, dtype=int), np.zeros(0)))


def test_weights_count_as_repetitions() -> None:
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 2, 50), generator.integers(0, 8, 50).astype(float)
    weights = generator.integers(0, 4, (5, 50)).astype(float)
    repeated = [
        roc_auc_score(np.repeat(labels, row.astype(int)), np.repeat(scores, row.astype(int))) for row in weights
    ]
    assert weighted_auc(labels, scores, weights) == pytest.approx(repeated, abs=1e-12)


def test_recall_counts_an_equal_text_as_a_hit() -> None:
    similarity = np.array([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [0.9, 0.2, 0.1]])
    texts = np.array([7, 7, 8])  # image 0's own report is last, but report 1 says the same
    places = hit_places(similarity, texts, texts)
    assert recall_at(places, 1).tolist() == [1.0, 1.0, 0.0]
    assert recall_at(places, 2).tolist() == [1.0, 1.0, 0.0]
    assert recall_at(places, 3).tolist() == [1.0, 1.0, 1.0]
    assert expected_rank(places).tolist() == [1.0, 1.0, 3.0]


def test_ties_count_in_expectation_over_random_orders() -> None:
    # One miss ahead; then one hit tied with two misses: among the first 2 with probability 1/3, the first 3 with 2/3.
    similarity = np.array([[0.9, 0.5, 0.5, 0.5, 0.1]])
    places = hit_places(similarity, np.array([1]), np.array([0, 1, 2, 3, 4]))
    assert recall_at(places, 1)[0] == 0.0
    assert recall_at(places, 2)[0] == pytest.approx(1 / 3)
    assert recall_at(places, 3)[0] == pytest.approx(2 / 3)
    assert recall_at(places, 4)[0] == pytest.approx(1.0)
    assert expected_rank(places)[0] == pytest.approx(3.0)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_of_texts_that_all_differ_is_scikit_learns_top_k_accuracy(k: int) -> None:
    similarity = np.random.default_rng(k).normal(size=(40, 40)) + 2 * np.eye(40)
    texts = np.arange(40)
    expected = top_k_accuracy_score(texts, similarity, k=k)
    assert recall_at(hit_places(similarity, texts, texts), k).mean() == pytest.approx(expected)


def test_chance_is_k_over_gallery_when_texts_differ() -> None:
    texts = np.arange(600)
    assert chance_recall(texts, texts, 5) == pytest.approx(5 / 600)


def test_chance_counts_duplicates() -> None:
    # Texts a a b: a is hit in one draw with 2/3, b with 1/3.
    texts = np.array([0, 0, 1])
    assert chance_recall(texts, texts, 1) == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)
    assert chance_recall(texts, texts, 2) == pytest.approx((1 + 1 + 2 / 3) / 3)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_a_collapsed_model_scores_exactly_chance(k: int) -> None:
    texts = np.random.default_rng(0).integers(0, 20, 60)
    places = hit_places(np.ones((60, 60)), texts, texts)
    assert recall_at(places, k).mean() == pytest.approx(chance_recall(texts, texts, k), abs=1e-12)


def test_noise_scores_chance_on_average() -> None:
    generator = np.random.default_rng(0)
    texts = generator.integers(0, 40, 80)
    means = [recall_at(hit_places(generator.normal(size=(80, 80)), texts, texts), 5).mean() for _ in range(100)]
    standard_error = np.std(means) / 10
    assert abs(np.mean(means) - chance_recall(texts, texts, 5)) < 4 * standard_error


def test_more_places_than_items_always_hit() -> None:
    texts = np.array([0, 1])
    assert recall_at(hit_places(np.eye(2), texts, texts), 10).tolist() == [1.0, 1.0]
    assert chance_recall(texts, texts, 10) == 1.0

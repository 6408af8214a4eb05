"""Figures of merit on arrays: area under the ROC curve, and retrieval where equal texts count as hits.

N samples, Q queries, G gallery items, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Texts = NDArray[np.int64]
"""Text identities: equal text, equal number."""


def auc(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """Return the area under the ROC curve: P(score of a positive > score of a negative), ties count one half.

    Args:
        labels: [N] of 1 and 0.
        scores: [N], larger means more likely positive.

    Returns:
        A value in [0, 1], or nan when one of the two classes is absent.
    """
    weights = np.ones((1, len(labels)))
    return float(weighted_auc(labels, scores, weights)[0])


def weighted_auc(labels: NDArray[np.integer], scores: NDArray[np.floating], weights: Floats) -> Floats:
    """Return one AUC per row of sample weights, which is what a bootstrap needs: one sort serves every resample.

    Args:
        labels: [N] of 1 and 0.
        scores: [N].
        weights: [R, N], how often each sample counts.

    Returns:
        [R]; nan where a resample holds one class only.
    """
    if len(labels) == 0:
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    ordered = np.asarray(scores)[order]
    group_starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    is_positive = np.asarray(labels)[order] == 1
    taken = weights[:, order]
    positives = np.add.reduceat(taken * is_positive, group_starts, axis=1)
    negatives = np.add.reduceat(taken * ~is_positive, group_starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    wins = (positives * (below + 0.5 * negatives)).sum(axis=1)
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    values = np.full(len(weights), np.nan)
    np.divide(wins, pairs, out=values, where=pairs > 0)
    return values


@dataclass(frozen=True)
class HitPlaces:
    """Where the best hit of each query stands in the ranked gallery, ties included; each [Q] int64."""

    ahead: Ints
    """Items that score strictly higher than the best hit, all of them misses."""
    tied_misses: Ints
    """Misses that score the same as the best hit."""
    tied_hits: Ints
    """Hits that score the same as the best hit (at least 1)."""


def hit_places(similarity: NDArray[np.floating], query_texts: Texts, gallery_texts: Texts) -> HitPlaces:
    """Locate the best hit of each query, where every gallery item with an equal text is a hit.

    Args:
        similarity: [Q, G].
        query_texts: [Q] text identities; each must occur in the gallery.
        gallery_texts: [G] text identities.
    """
    hits = np.asarray(query_texts)[:, None] == np.asarray(gallery_texts)[None, :]
    best = np.where(hits, similarity, -np.inf).max(axis=1, keepdims=True)
    tied = similarity == best
    return HitPlaces(
        ahead=(similarity > best).sum(axis=1),
        tied_misses=(tied & ~hits).sum(axis=1),
        tied_hits=(tied & hits).sum(axis=1),
    )


def recall_at(places: HitPlaces, k: int) -> Floats:
    """Return the probability, per query, that a hit is among the first k when ties are broken at random.

    A collapsed model, whose similarities are all equal, therefore scores exactly the chance level.

    Returns:
        [Q] in [0, 1]; the mean is recall@k.
    """
    return 1.0 - _probability_no_hit(places.tied_misses, places.tied_hits, k - places.ahead)


def expected_rank(places: HitPlaces) -> Floats:
    """Return the expected rank (from 1) of the best hit per query when ties are broken at random: [Q]."""
    return places.ahead + (places.tied_misses + places.tied_hits + 1) / (places.tied_hits + 1)


def chance_recall(query_texts: Texts, gallery_texts: Texts, k: int) -> float:
    """Return the recall@k of a random ranking of this gallery: more than k / G when texts repeat."""
    names, counts = np.unique(np.asarray(gallery_texts), return_counts=True)
    hits = counts[np.searchsorted(names, np.asarray(query_texts))]
    misses = len(gallery_texts) - hits
    return float(np.mean(1.0 - _probability_no_hit(misses, hits, np.full(len(hits), k))))


def _probability_no_hit(misses: Ints, hits: Ints, draws: Ints) -> Floats:
    """Return P(no hit among `draws` items drawn without replacement) = C(misses, draws) / C(misses + hits, draws)."""
    probability = np.ones(len(draws))
    for drawn in range(int(max(draws.max(initial=0), 0))):
        left = np.maximum(misses - drawn, 0) / np.maximum(misses + hits - drawn, 1)
        probability = np.where(drawn < draws, probability * left, probability)
    return probability

"""Image-report retrieval in both directions over one image per study; equal report texts count as hits.

Q queries (studies), G = Q gallery items.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from msvl.evaluation.bootstrap import Bootstrap, mean_statistic
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.material import Figures, Material, NotJudgeable, put
from msvl.evaluation.metrics import HitPlaces, chance_recall, expected_rank, hit_places, recall_at

DEPTHS = (1, 5, 10)
QUERY_BLOCK = 512
"""Queries ranked at once, so that a gallery of 22,000 needs 90 MB and not 4 GB."""


def run(material: Material, config: EvaluationConfig) -> Figures:
    """Return recall@1/5/10, median rank and chance levels: `report_*` finds reports by image, `image_*` the reverse.

    The gallery stays fixed in the bootstrap; patients are drawn as queries. Ties count in expectation.

    Raises:
        NotJudgeable: Fewer than two studies.
    """
    rows = first_of_each(material.studies)
    if len(rows) < 2 or material.reports is None:
        raise NotJudgeable(
            "retrieval needs reports of at least two studies in the evaluated split: leave it out with --tasks"
        )
    images, reports = material.encoded.image[rows], material.reports[rows]
    texts = np.unique(np.asarray(material.texts)[rows], return_inverse=True)[1]
    bootstrap = Bootstrap([material.patients[row] for row in rows], resamples=config.resamples, seed=config.seed)
    figures: Figures = {}
    for name, queries, gallery in (("report", images, reports), ("image", reports, images)):
        places = ranked(queries, gallery, texts)
        for depth in DEPTHS:
            hits = recall_at(places, depth)
            put(figures, f"{name}_r{depth}", hits.mean(), bootstrap.interval(mean_statistic(hits)))
            figures[f"{name}_r{depth}_chance"] = chance_recall(texts, texts, depth)
        figures[f"{name}_median_rank"] = float(np.median(expected_rank(places)))
    return figures | {"gallery": len(rows), "distinct_texts": len(np.unique(texts))}


def first_of_each(studies: list[str]) -> NDArray[np.int64]:
    """Return the row of the first image of each study, ascending."""
    return np.sort(np.unique(np.asarray(studies), return_index=True)[1])


def ranked(queries: torch.Tensor, gallery: torch.Tensor, texts: NDArray[np.int64]) -> HitPlaces:
    """Rank the gallery for every query by cosine.

    Args:
        queries: [Q, C] unit length.
        gallery: [G, C] unit length, G = Q and aligned with the queries.
        texts: [Q] text identities of both.
    """
    blocks = []
    for start in range(0, len(queries), QUERY_BLOCK):
        similarity = (queries[start : start + QUERY_BLOCK] @ gallery.T).numpy()
        blocks.append(hit_places(similarity, texts[start : start + QUERY_BLOCK], texts))
    return HitPlaces(
        ahead=np.concatenate([block.ahead for block in blocks]),
        tied_misses=np.concatenate([block.tied_misses for block in blocks]),
        tied_hits=np.concatenate([block.tied_hits for block in blocks]),
    )

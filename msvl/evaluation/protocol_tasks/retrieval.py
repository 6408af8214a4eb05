"""Retrieval both ways by a card: the full gallery, and folds of a fixed size, whose recall does not depend on the set's size."""

from __future__ import annotations

import numpy as np

from msvl.data.identity import text_hash
from msvl.evaluation.answers import Answer, Column, Columns
from msvl.evaluation.bootstrap import Bootstrap, mean_statistic
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.exam import Exam
from msvl.evaluation.material import Figures, NotJudgeable, put
from msvl.evaluation.metrics import chance_recall, expected_rank, recall_at
from msvl.evaluation.protocol import Card
from msvl.evaluation.tasks.retrieval import DEPTHS, first_of_each, ranked


def run(exam: Exam, card: Card, config: EvaluationConfig) -> Answer:
    """Collective. Return recall at 1, 5, 10, median rank and chance: `report_*` finds reports by image, `image_*` the reverse.

    Raises:
        NotJudgeable: Fewer than two studies.
    """
    assert card.retrieval is not None, card.task
    test = exam.splits.test
    rows = first_of_each(test.studies)
    if len(rows) < 2:
        raise NotJudgeable("retrieval needs at least two studies in the evaluated split")
    if not all(test.sentences):
        raise NotJudgeable("retrieval needs reports: this packed set has none")
    images, reports = exam.features("test").image[rows], exam.reports()[rows]
    hashes = [text_hash(" ".join(test.sentences[row])) for row in rows]
    texts = np.unique(np.asarray(hashes), return_inverse=True)[1]
    patients, keys = tuple(test.patients[row] for row in rows), tuple(test.keys[row] for row in rows)
    bootstrap = Bootstrap(patients, resamples=config.resamples, seed=config.seed)
    figures: Figures = {}
    columns: Columns = {}
    for name, queries, gallery in (("report", images, reports), ("image", reports, images)):
        places = ranked(queries, gallery, texts)
        for depth in DEPTHS:
            hits = recall_at(places, depth)
            put(figures, f"{name}_r{depth}", hits.mean(), bootstrap.interval(mean_statistic(hits)))
            figures[f"{name}_r{depth}_chance"] = chance_recall(texts, texts, depth)
            columns[f"{name}_r{depth}"] = Column(hits, keys, patients)
        figures[f"{name}_median_rank"] = float(np.median(expected_rank(places)))
        fold = card.retrieval.fold
        if fold is not None and len(rows) > fold:
            parts = [ranked(queries[part], gallery[part], texts[part]) for part in _folds(len(rows), fold, config.seed)]
            for depth in DEPTHS:
                figures[f"{name}_r{depth}_fold"] = float(np.mean([recall_at(part, depth).mean() for part in parts]))
    return Answer(figures | {"gallery": len(rows), "distinct_texts": len(np.unique(texts))}, columns)


def _folds(count: int, size: int, seed: int) -> list[np.ndarray]:
    """Return the whole folds of a random order; the rest is left out."""
    order = np.random.default_rng(seed).permutation(count)
    return [order[start : start + size] for start in range(0, count - size + 1, size)]

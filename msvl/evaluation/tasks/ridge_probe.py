"""The linear probe's fast sibling for judgement during training: ridge regression in closed form, nothing to choose.

T training images, N held-out images, F features.
"""

from __future__ import annotations

import numpy as np

from msvl.evaluation.bootstrap import Bootstrap
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.findings import Labels, auc_figures
from msvl.evaluation.material import Figures, Material
from msvl.evaluation.metrics import Floats
from msvl.evaluation.tasks.linear_probe import checked_probe, shared_findings, standardised

PENALTY_SHARE = 0.1
"""Penalty as a share of the mean eigenvalue of the features' covariance."""
SMALLEST_PENALTY = 1e-8
"""Keeps the equations solvable when a collapsed model's features are constant."""


def run(material: Material, config: EvaluationConfig) -> Figures:
    """Return the AUC per finding and its mean, of ridge regression on the encoder's features before the projection.

    Raises:
        DataError: As the linear probe.
    """
    probe = checked_probe(material, task="the ridge probe")
    labels = {name: probe.labels[name] for name in shared_findings(material, probe)}
    train, test = standardised(probe.features.double().numpy(), material.encoded.features.double().numpy())
    bootstrap = Bootstrap(material.patients, resamples=config.resamples, seed=config.seed)
    figures = auc_figures(material.labels, ridge_scores(train, labels, test), bootstrap)
    return figures | {"training_images": len(probe.patients)}


def ridge_scores(train: Floats, labels: Labels, test: Floats) -> dict[str, Floats]:
    """Return the decision values [N] of one ridge regression per finding, fitted on the known labels in closed form."""
    scores = {}
    for name, values in labels.items():
        known = np.isin(values, (0, 1))
        inputs, targets = train[known], values[known].astype(np.float64)
        covariance = inputs.T @ inputs / len(inputs)
        penalty = PENALTY_SHARE * np.trace(covariance) / len(covariance) + SMALLEST_PENALTY
        slope = inputs.T @ (targets - targets.mean()) / len(inputs)
        scores[name] = test @ np.linalg.solve(covariance + penalty * np.eye(len(covariance)), slope)
    return scores

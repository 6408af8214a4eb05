"""Linear probe: a linear classifier on frozen image features, fitted on training studies, judged on the held-out ones.

T training images, N held-out images, F features, K findings.
"""

from __future__ import annotations

import hashlib

import numpy as np

from msvl.config.errors import DataError
from msvl.evaluation.bootstrap import Bootstrap
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.findings import Labels, auc_figures, judgeable, judgeable_findings, known_auc
from msvl.evaluation.material import Figures, Material, NotJudgeable, ProbeMaterial
from msvl.evaluation.metrics import Floats

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse regularisation C that the probe chooses from, on standardised features."""
HELD_OUT_SHARE = 0.2
"""Share of the training patients on which C is chosen."""


def run(material: Material, config: EvaluationConfig) -> Figures:
    """Return the AUC per finding and its mean, of logistic regression on the encoder's features before the projection.

    Raises:
        NotJudgeable: No training studies, or no finding with both classes in both sets.
        DataError: A patient is in both sets.
    """
    probe = checked_probe(material, task="the linear probe")
    train, test = probe.features.double().numpy(), material.encoded.features.double().numpy()
    return logistic_figures(train, test, material, probe, config=config)


def checked_probe(material: Material, *, task: str) -> ProbeMaterial:
    """Return the training material. Raises NotJudgeable without it, DataError when a patient is on both sides."""
    if material.probe is None or not material.probe.patients:
        raise NotJudgeable(
            f"{task} needs training studies with labels: the packed set has none, leave it out with --tasks"
        )
    shared = set(material.probe.patients) & set(material.patients)
    if shared:
        raise DataError(
            f"{len(shared)} patients (one is {min(shared)}) are in both the training and the evaluated split, so "
            f"{task} would be judged on what it saw: pack the set again with patient-level splits"
        )
    return material.probe


def shared_findings(material: Material, probe: ProbeMaterial) -> list[str]:
    """Return the findings that have both classes in both sets. Raises NotJudgeable when there is none."""
    judged = [name for name in judgeable_findings(material.labels) if name in judgeable(probe.labels)]
    if not judged:
        raise NotJudgeable(
            "a probe needs a finding with positive and negative labels in both splits: leave it out with --tasks"
        )
    return judged


def standardised(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Scale both by the mean and the standard deviation of `train`."""
    mean, spread = train.mean(axis=0), train.std(axis=0) + 1e-6
    return (train - mean) / spread, (test - mean) / spread


def logistic_figures(
    train: Floats, test: Floats, material: Material, probe: ProbeMaterial, *, config: EvaluationConfig
) -> Figures:
    """Fit one logistic regression per finding on `train` [T, F] and return the figures on `test` [N, F]."""
    labels = {name: probe.labels[name] for name in shared_findings(material, probe)}
    train, test = standardised(train, test)
    strength = choose_strength(train, labels, probe.patients)
    scores = logistic_scores(train, labels, test, strength=strength)
    bootstrap = Bootstrap(material.patients, resamples=config.resamples, seed=config.seed)
    figures = auc_figures(material.labels, scores, bootstrap)
    return figures | {"strength": strength, "training_images": len(probe.patients)}


def choose_strength(features: Floats, labels: Labels, patients: list[str]) -> float:
    """Return the C of STRENGTHS with the best mean AUC on a fifth of the training patients, chosen by hash."""
    held_out = np.asarray([_patient_share(patient) < HELD_OUT_SHARE for patient in patients])
    kept = {name: values[~held_out] for name, values in labels.items()}
    wanted = {name: values[held_out] for name, values in labels.items()}
    usable = [name for name in judgeable(kept) if name in judgeable(wanted)]
    if not usable:
        return STRENGTHS[1]
    means = []
    for strength in STRENGTHS:
        fitted = {name: kept[name] for name in usable}
        scores = logistic_scores(features[~held_out], fitted, features[held_out], strength=strength)
        means.append(np.mean([known_auc(wanted[name], column) for name, column in scores.items()]))
    return STRENGTHS[int(np.argmax(means))]


def logistic_scores(train: Floats, labels: Labels, test: Floats, *, strength: float) -> dict[str, Floats]:
    """Return the decision values [N] of one logistic regression per finding, fitted on the known labels."""
    from sklearn.linear_model import LogisticRegression  # slow to import, and in-loop validation does not need it
    from threadpoolctl import threadpool_limits

    scores = {}
    # Problems this small only wait for each other's threads: 42 s instead of 3 s on a busy machine with two cores.
    with threadpool_limits(limits=1):
        for name, values in labels.items():
            known = np.isin(values, (0, 1))
            classifier = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
            scores[name] = classifier.fit(train[known], values[known]).decision_function(test)
    return scores


def _patient_share(patient: str) -> float:
    """Return a number in [0, 1) that depends on the patient alone."""
    return int.from_bytes(hashlib.blake2b(patient.encode(), digest_size=6).digest(), "big") / 2**48

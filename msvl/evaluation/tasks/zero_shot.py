"""Zero-shot classification: is the image nearer to the positive or to the negative prompts of a finding?

N images, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from msvl.evaluation.bootstrap import Bootstrap
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.encoders import EncodedImages
from msvl.evaluation.findings import auc_figures, judgeable_findings, macro_auc
from msvl.evaluation.material import Figures, Material, NotJudgeable, put
from msvl.evaluation.metrics import Floats
from msvl.evaluation.prompts import PromptSet

SCORES = ("global", "local", "both")


def flat_prompts(prompts: PromptSet) -> list[str]:
    """Return all prompts, the positive then the negative ones of each finding in turn."""
    return [text for item in prompts.findings.values() for text in (*item.positive, *item.negative)]


def ensembles(prompts: PromptSet, embeddings: Tensor) -> Tensor:
    """Average the normalised embeddings of each side (CheXzero, BioViL) and normalise the mean.

    Args:
        prompts: K prompts altogether.
        embeddings: [K, C] unit length, in the order of `flat_prompts`.

    Returns:
        [2 * findings, C] unit length, positive and negative side in turn.
    """
    sizes = [size for item in prompts.findings.values() for size in (len(item.positive), len(item.negative))]
    means = torch.stack([side.mean(dim=0) for side in torch.split(embeddings, sizes)])
    return functional.normalize(means, dim=-1)


def run(material: Material, config: EvaluationConfig) -> Figures:
    """Return the AUC per finding and its mean, by the score cos(positive) - cos(negative).

    The difference ranks as the softmax of the pair does. Only labels 1 and 0 count; findings of one class are left out.
    The two scores that are not the headline stand beside it as `auc_mean_NAME`.

    Raises:
        NotJudgeable: No finding has both positives and negatives.
    """
    prompts = material.prompts or PromptSet({}, origin="none")
    judged = [name for name in judgeable_findings(material.labels) if name in prompts.findings]
    if not judged or material.prompt_embeddings is None:
        raise NotJudgeable(
            "zero-shot classification needs a finding with positive and negative labels in the evaluated split: "
            "choose another split, or leave the task out with --tasks"
        )
    scores = finding_scores(prompts, material.prompt_embeddings, material.encoded)
    bootstrap = Bootstrap(material.patients, resamples=config.resamples, seed=config.seed)
    figures = auc_figures(material.labels, {name: scores[name][config.zero_shot_score] for name in judged}, bootstrap)
    for other in (kind for kind in SCORES if kind != config.zero_shot_score):
        columns = {name: scores[name][other] for name in judged}
        put(figures, f"auc_mean_{other}", *macro_auc(material.labels, columns, bootstrap))
    return figures | {
        "score": config.zero_shot_score,
        "prompts": prompts.origin,
        "prompts_digest": prompts.digest,
    }


def finding_scores(prompts: PromptSet, embeddings: Tensor, encoded: EncodedImages) -> dict[str, dict[str, Floats]]:
    """Return per finding the global, the local (best patch) and the mean score, each [N].

    Args:
        prompts: Findings in the order of the embeddings.
        embeddings: [2 * findings, C] positive and negative ensembles in turn.
        encoded: Images, with `prompt_scores` in the same order.
    """
    whole = (encoded.image @ embeddings.T).double().numpy()
    best = encoded.prompt_scores.double().numpy()
    differences = whole[:, 0::2] - whole[:, 1::2], best[:, 0::2] - best[:, 1::2]
    columns = dict(zip(SCORES, (*differences, (differences[0] + differences[1]) / 2), strict=True))
    return {
        name: {kind: values[:, place] for kind, values in columns.items()}
        for place, name in enumerate(prompts.findings)
    }

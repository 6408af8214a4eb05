"""Zero-shot classification by a card: its prompts, ensemble and threshold; and how much other wordings change it.

N images, K prompts, C channels.
"""

from __future__ import annotations

import numpy as np

from msvl.evaluation.answers import Answer
from msvl.evaluation.bootstrap import Bootstrap
from msvl.evaluation.classifiers import Scores, classifier_answer
from msvl.evaluation.config import EvaluationConfig
from msvl.evaluation.encoders import encode_prompts
from msvl.evaluation.exam import Exam
from msvl.evaluation.findings import known_auc
from msvl.evaluation.material import Figures, NotJudgeable
from msvl.evaluation.metrics import Floats
from msvl.evaluation.prompts import PromptSet
from msvl.evaluation.protocol import Card
from msvl.evaluation.published_prompts import card_prompts, every_prompt_set
from msvl.evaluation.recipes import ZeroShotRecipe
from msvl.evaluation.tasks.zero_shot import ensembles, flat_prompts


def run(exam: Exam, card: Card, config: EvaluationConfig) -> Answer:
    """Collective. Return AUC, F1 and accuracy per finding and mean, and the spread over all prompt sets.

    Raises:
        NotJudgeable: No finding has both classes in val and test.
    """
    assert card.zero_shot is not None, card.task
    recipe, splits = card.zero_shot, exam.splits
    if not exam.findings:
        raise NotJudgeable(
            "zero-shot classification needs a finding with positive and negative labels in val and test: its thresholds "
            "come from val"
        )
    prompts = card_prompts(recipe.prompts, exam.findings, exam.packed.path, recipe.names)
    scores = Scores(*(prompt_scores(exam, prompts, recipe, split) for split in ("val", "test")))
    bootstrap = Bootstrap(splits.test.patients, resamples=config.resamples, seed=config.seed)
    on_test = recipe.threshold_split == "test"
    answer = classifier_answer(scores, splits.val, splits.test, rule=recipe.threshold, on_test=on_test, bootstrap=bootstrap)  # fmt: skip
    answer.figures.update(_sensitivity(exam, list(scores.test), recipe))
    answer.figures.update({"prompts": prompts.origin, "prompts_digest": prompts.digest, "score": recipe.score})
    return answer


def prompt_scores(exam: Exam, prompts: PromptSet, recipe: ZeroShotRecipe, split: str) -> dict[str, Floats]:
    """Collective. Return score(positive side) - score(negative side) per finding: [N]."""
    sides = encode_prompts(exam.model, exam.tokeniser, flat_prompts(prompts), batch_size=exam.batch_size)
    whole, local = sides.text, sides.sentence
    if recipe.ensemble == "mean":
        whole, local = ensembles(prompts, whole), ensembles(prompts, local)
    needs_patches = recipe.score != "global"
    features = exam.features(
        split,
        prompts=local if needs_patches else None,
        prompts_digest=f"{prompts.digest} {recipe.ensemble}" if needs_patches else "",
    )
    columns = {"global": (features.image @ whole.T).double().numpy(), "local": features.best_patch.double().numpy()}
    used = ("global", "local") if recipe.score == "both" else (recipe.score,)
    return _differences(prompts, np.mean([columns[name] for name in used], axis=0), recipe)


def _differences(prompts: PromptSet, values: Floats, recipe: ZeroShotRecipe) -> dict[str, Floats]:
    """Return positive minus negative from columns of sides, or of single prompts whose largest counts."""
    found, place = {}, 0
    for name, item in prompts.findings.items():
        sizes = (1, 1) if recipe.ensemble == "mean" else (len(item.positive), len(item.negative))
        middle, end = place + sizes[0], place + sum(sizes)
        found[name] = values[:, place:middle].max(axis=1) - values[:, middle:end].max(axis=1)
        place = end
    return found


def _sensitivity(exam: Exam, findings: list[str], recipe: ZeroShotRecipe) -> Figures:
    """Return the mean AUC with every prompt set, global score, and its standard deviation over the sets."""
    fixed = recipe.model_copy(update={"score": "global"})
    labels = exam.splits.test.labels
    means = {}
    for name, prompts in every_prompt_set(findings, exam.packed.path, recipe.names).items():
        scores = prompt_scores(exam, prompts, fixed, "test")
        means[name] = float(np.mean([known_auc(labels[finding], values) for finding, values in scores.items()]))
    return {"auc_mean_by_prompts": means, "auc_mean_spread_over_prompts": float(np.std(list(means.values())))}

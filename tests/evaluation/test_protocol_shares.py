"""More labels judge no worse, in every task that learns from them, where pictures show what is to be learnt."""

from __future__ import annotations

import pytest
import torch

from tests.evaluation.judged_runs import ShownPhantom, fast_protocol, judge, make_run, pack_phantom

torch.set_num_threads(1)
TASKS = ("linear_probe", "fine_tuned", "segmentation")
SCHEDULES = {ratio: {"steps": 60, "lr": 3e-3, "warmup": 5} for ratio in ("1", "10", "100")}


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder = tmp_path_factory.mktemp("shares")
    packed = pack_phantom(folder / "shown", source=ShownPhantom, train=400, val=60, test=100)
    tuning = {"schedules": SCHEDULES, "judged": 4}
    protocol = fast_protocol(
        folder / "fast.yaml",
        linear_probe={"ratios": ["1", "10", "100"]},
        fine_tuned=tuning | {"batch": 16, "crop": [1.0, 1.0], "flip": False, "drop_path": 0.0, "head_std": 0.02},
        segmentation=tuning | {"head": "linear", "batch": 8, "flip": 0.0, "drop_path": 0.0, "layer_decay": 1.0},
    )
    return judge(make_run(folder, packed), protocol, tasks=TASKS)


@pytest.mark.evidence(
    "More labels judge better where pictures show what is to be learnt: probe, fine-tuning and segmentation at 1 and 100 %",
    how="cpu",
)
@pytest.mark.parametrize(
    ("task", "figure", "least"), [("linear_probe", "auc_mean", 0.7), ("fine_tuned", "auc_mean", 0.7), ("segmentation", "dice_image", 0.5)]
)  # fmt: skip
def test_all_labels_judge_better_than_a_hundredth(
    figures: dict[str, dict[str, float]], task: str, figure: str, least: float
) -> None:
    few, most = (figures[task][f"{figure}_at_{ratio}"] for ratio in ("1", "100"))
    assert most > few + 0.05 and most > least
    assert figures[task][f"{figure}_at_10"] > few

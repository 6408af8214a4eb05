"""What the headline tables are means of, with the card of every figure."""

from __future__ import annotations

from msvl.evaluation.detail_tables import detail_tables

CARDS = {task: {"digest": f"digest of {task}"} for task in ("zero_shot", "linear_probe", "grounding", "segmentation")}
FIGURES = {
    "zero_shot": {
        "auc": {"nodule": 0.75, "mass": 0.5}, "auc_interval": {"nodule": [0.7, 0.8]},
        "auc_mean_by_prompts": {"maco": 0.7, "own": 0.8}, "auc_mean_spread_over_prompts": 0.05,
    },
    "linear_probe": {"auc_at_1": {"nodule": 0.6}, "auc_at_100": {"nodule": 0.9, "mass": 0.8}},
    "grounding": {
        "miou_by_finding": {"nodule": 0.1}, "cnr_by_finding": {"nodule": -0.2}, "iou_0.1": 0.3, "iou_0.2": 0.25,
        "iou_0.1_untrained": 0.2,
    },
    "segmentation": {"dice_image_by_mask_at_100": {"left_lung": 0.9}},
}  # fmt: skip


def test_figures_by_finding_prompt_set_threshold_and_mask() -> None:
    found = dict(detail_tables({"figures": FIGURES, "cards": CARDS}))
    cards = "cards digest of zero_shot, digest of linear_probe"
    by_finding = found[f"By finding, AUC (%); {cards}"]
    assert by_finding.columns == ("finding", "zero shot", "linear probe, 1 %", "linear probe, 100 %")
    assert by_finding.rows == [("mass", "50.0", "-", "80.0"), ("nodule", "75.0 [70.0, 80.0]", "60.0", "90.0")]
    assert found["By finding, phrase grounding; card digest of grounding"].rows == [("nodule", "0.100", "-0.200")]
    assert found["By mask, Dice per image (%); card digest of segmentation"].rows == [("left lung", "90.0")]
    prompts = found["Zero-shot AUC by prompt set, cosine of image and prompt (%); card digest of zero_shot"].rows
    assert prompts == [("maco", "70.0"), ("own", "80.0"), ("spread (standard deviation)", "5.0")]
    thresholds = found["Phrase grounding, IoU by threshold; card digest of grounding"].rows
    assert thresholds == [("0.1", "0.300"), ("0.2", "0.250")]


def test_what_was_not_measured_has_no_table() -> None:
    assert detail_tables({"figures": {"zero_shot": {"left_out": "why"}}, "cards": {}}) == []

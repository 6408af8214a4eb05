"""What a judgement by a protocol says where there is nothing to be seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.judged_runs import (
    NoisePhantom,
    fast_protocol,
    judge,
    make_run,
    pack_phantom,
)

torch.set_num_threads(1)


@pytest.mark.evidence("On noise images every task is at chance", how="cpu")
def test_noise_is_at_chance_for_every_task(tmp_path: Path) -> None:
    packed = pack_phantom(tmp_path / "noise", source=NoisePhantom, train=150, val=60, test=120)
    found = judge(make_run(tmp_path, packed), fast_protocol(tmp_path / "fast.yaml"))
    assert abs(found["zero_shot"]["auc_mean"] - 0.5) < 0.1
    assert abs(found["linear_probe"]["auc_mean"] - 0.5) < 0.1
    assert abs(found["fine_tuned"]["auc_mean"] - 0.5) < 0.1
    for side in ("report", "image"):
        low, high = found["retrieval"][f"{side}_r10_interval"]
        assert low - 0.02 <= found["retrieval"][f"{side}_r10_chance"] <= high + 0.02
    assert abs(found["grounding"]["cnr"]) < 0.25
    assert abs(found["grounding"]["pointing"] - found["grounding"]["pointing_chance"]) < 0.15
    assert found["segmentation"]["dice_image"] <= best_constant_dice(packed) + 0.03


def best_constant_dice(packed_folder: Path) -> float:
    """Return the mean Dice over masks of the better of nothing at all and the usual place in training."""
    from msvl.data.packed import PackedSet
    from msvl.data.reader import SampleReader
    from msvl.evaluation.dice import count_masks, image_dice
    from msvl.evaluation.tuning.images import square_mask

    packed = PackedSet.open(packed_folder)
    bits = range(len(packed.mask_bits))
    masks = {}
    for split in ("train", "test"):
        index = packed.split(split)
        reader = SampleReader(index)
        masks[split] = np.stack([square_mask(reader, number, 64, bits) for number in range(len(index))])
    usual = masks["train"].mean(axis=0) > 0.5
    best = []
    for place in bits:
        truth = masks["test"][:, place]
        scores = [
            image_dice(count_masks(np.broadcast_to(mask, truth.shape), truth)).mean()
            for mask in (usual[place], usual[place] & False)
        ]
        best.append(max(scores))
    return float(np.mean(best))

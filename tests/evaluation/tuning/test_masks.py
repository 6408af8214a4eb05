"""Mask heads and losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from msvl.evaluation.tuning.mask_heads import LinearHead, PyramidHead, as_planes, four_blocks, start_at
from msvl.evaluation.tuning.mask_losses import focal_loss, mask_loss, soft_dice_loss


def test_the_pyramid_reads_macos_blocks() -> None:
    assert four_blocks(12) == (3, 5, 7, 11)
    assert four_blocks(4) == (0, 1, 2, 3)
    assert four_blocks(2)[-1] == 1
    assert four_blocks(24) == (5, 11, 17, 23)


def test_patches_become_planes_row_by_row() -> None:
    state = torch.arange(5.0).reshape(1, 5, 1)  # class token 0, patches 1 to 4
    assert as_planes([state], (0,), 1)[0][0, 0].tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("side", [1, 3, 4])
def test_heads_answer_at_their_resolution(side: int) -> None:
    states = [torch.randn(2, 16, side, side) for _ in range(4)]
    logits, auxiliary = PyramidHead(16, 3, channels=8)(states)
    assert logits.shape == (2, 3, 4 * side, 4 * side)
    assert auxiliary.shape == (2, 3, side, side)
    logits, auxiliary = LinearHead(16, 3)(states)
    assert logits.shape == (2, 3, side, side) and auxiliary is None


@pytest.mark.parametrize("kind", [LinearHead, PyramidHead])
def test_a_head_learns_a_mask(kind: type) -> None:
    torch.manual_seed(0)
    head = kind(8, 1, **({"channels": 8} if kind is PyramidHead else {}))
    truth = torch.zeros(4, 1, 16, 16, dtype=torch.bool)
    truth[:, :, 4:12, 4:12] = True
    planes = torch.randn(4, 8, 4, 4) * 0.1
    planes[:, 0, 1:3, 1:3] += 3
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = mask_loss(head([planes] * 4)[0], truth, focal=2.0, dice=1.0, cross_entropy=0.0)
        loss.backward()
        optimizer.step()
    said = functional.interpolate(head.eval()([planes] * 4)[0], size=(16, 16), mode="bilinear") > 0
    assert (said & truth).sum() / (said | truth).sum() > 0.6


@pytest.mark.parametrize("kind", [LinearHead, PyramidHead])
def test_a_head_starts_at_its_prior(kind: type) -> None:
    head = kind(16, 3, **({"channels": 8} if kind is PyramidHead else {}))
    start_at(head, 0.02)
    states = [torch.zeros(2, 16, 4, 4)] * 4
    for logits in head.eval()(states):
        if logits is not None:
            assert torch.sigmoid(logits).mean().item() == pytest.approx(0.02, rel=0.3)


def test_focal_loss_by_hand() -> None:
    logits, truth = torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[True, False]]]])
    high = 1 / (1 + math.exp(-2.0))
    expected = (0.25 * 0.5**2 * math.log(2) + 0.75 * high**2 * -math.log(1 - high)) / 2
    assert focal_loss(logits, truth).item() == pytest.approx(expected, rel=1e-5)


def test_soft_dice_by_hand() -> None:
    logits, truth = torch.tensor([[[[0.0, 0.0]]]]), torch.tensor([[[[True, False]]]])
    # Half of one pixel is hit: 1 - (2 * 0.5 + 1) / (0.25 + 0.25 + 1 + 1).
    assert soft_dice_loss(logits, truth).item() == pytest.approx(1 - 2.0 / 2.5)
    silent = soft_dice_loss(torch.full((1, 1, 2, 2), -20.0), torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    assert silent.item() == pytest.approx(0.0, abs=1e-6)


def test_weights_add_the_losses() -> None:
    logits, truth = torch.randn(2, 1, 4, 4), torch.rand(2, 1, 8, 8) > 0.5
    large = functional.interpolate(logits, size=(8, 8), mode="bilinear", align_corners=False)
    expected = 2 * focal_loss(large, truth) + soft_dice_loss(large, truth)
    expected = expected + 3 * functional.binary_cross_entropy_with_logits(large, truth.float())
    assert mask_loss(logits, truth, focal=2.0, dice=1.0, cross_entropy=3.0).item() == pytest.approx(expected.item())

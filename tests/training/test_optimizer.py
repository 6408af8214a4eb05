"""Which parameters are decayed, and which learn at the text tower's rate."""

from __future__ import annotations

import torch
from torch import nn

from msvl.training.config import OptimizerConfig
from msvl.training.optimizer import build_optimizer, parameter_groups


class Root(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.image_encoder = nn.Linear(2, 2)
        self.model.text_encoder = nn.Linear(2, 2)
        self.logit_scale = nn.Parameter(torch.ones(1))


def shares(root: Root, config: OptimizerConfig) -> dict[str, tuple[float, float]]:
    names = {id(parameter): name for name, parameter in root.named_parameters()}
    return {
        names[id(parameter)]: (group["weight_decay"], group["lr_share"])
        for group in parameter_groups(root, config)
        for parameter in group["params"]
    }


def test_matrices_alone_are_decayed_and_the_text_tower_has_its_own_rate() -> None:
    assert shares(Root(), OptimizerConfig(weight_decay=0.1, text_lr_share=0.5)) == {
        "logit_scale": (0.0, 1.0),
        "model.image_encoder.weight": (0.1, 1.0),
        "model.image_encoder.bias": (0.0, 1.0),
        "model.text_encoder.weight": (0.1, 0.5),
        "model.text_encoder.bias": (0.0, 0.5),
    }


def test_frozen_parameters_are_left_out() -> None:
    root = Root()
    root.model.image_encoder.requires_grad_(False)
    assert "model.image_encoder.weight" not in shares(root, OptimizerConfig())


def test_the_optimizer_is_adamw_with_the_configured_betas() -> None:
    optimizer = build_optimizer(Root(), OptimizerConfig(betas=(0.8, 0.9)), offload=False)
    assert type(optimizer) is torch.optim.AdamW
    assert all(group["betas"] == (0.8, 0.9) for group in optimizer.param_groups)

"""AdamW with weight decay on matrices only."""

from __future__ import annotations

import torch
from torch import nn

from msvl.training.config import OptimizerConfig

NO_DECAY_NAMES = ("position_embedding", "cls_token", "mask_token", "logit_scale", "embeddings.word_embeddings")


TEXT_TOWER = ("model.text_", "model.sentence_projection")
"""How names of the text tower's parameters begin."""


def parameter_groups(module: nn.Module, config: OptimizerConfig) -> list[dict[str, object]]:
    """Split trainable parameters by tower and by weight decay.

    Biases, norms, positions, embedding tables, tokens and temperatures are not decayed. `lr_share` of a group is what
    its learning rate is multiplied by.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = parameter.ndim < 2 or any(part in name for part in NO_DECAY_NAMES)
        share = config.text_lr_share if name.startswith(TEXT_TOWER) else 1.0
        groups.setdefault((0.0 if exempt else config.weight_decay, share), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_share": share}
        for (decay, share), parameters in groups.items()
    ]


def build_optimizer(module: nn.Module, config: OptimizerConfig, *, offload: bool) -> torch.optim.Optimizer:
    """Build AdamW; with offload DeepSpeed's CPU Adam, the only one ZeRO-Offload accepts (it compiles an op)."""
    groups = parameter_groups(module, config)
    if offload:
        from deepspeed.ops.adam import DeepSpeedCPUAdam  # compiles on first use, so only where asked for

        return DeepSpeedCPUAdam(groups, lr=config.lr, betas=config.betas)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, foreach=True)

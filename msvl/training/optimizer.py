"""AdamW with weight decay on matrices only."""

from __future__ import annotations

import torch
from torch import nn

from msvl.training.config import OptimizerConfig

NO_DECAY_NAMES = ("position_embedding", "cls_token", "mask_token", "logit_scale", "embeddings.word_embeddings")


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split trainable parameters into decayed matrices and the rest (biases, norms, positions, tokens, temperatures)."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = parameter.ndim < 2 or any(part in name for part in NO_DECAY_NAMES)
        (plain if exempt else decayed).append(parameter)
    groups: list[dict[str, object]] = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: OptimizerConfig, *, offload: bool) -> torch.optim.Optimizer:
    """Build AdamW; with offload DeepSpeed's CPU Adam, the only one ZeRO-Offload accepts (it compiles an op)."""
    groups = parameter_groups(module, config.weight_decay)
    if offload:
        from deepspeed.ops.adam import DeepSpeedCPUAdam  # compiles on first use, so only where asked for

        return DeepSpeedCPUAdam(groups, lr=config.lr, betas=config.betas)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, foreach=True)

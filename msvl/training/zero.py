"""Our configuration -> the complete DeepSpeed dictionary. No 'auto' is left for anybody to guess."""

from __future__ import annotations

from typing import Any

from msvl.config.errors import ClusterError
from msvl.training.config import PretrainConfig


def micro_batch(config: PretrainConfig, world: int) -> int:
    """Return pairs per rank and forward pass.

    Raises ClusterError when the global batch does not divide over the ranks, or the pairs of a rank over micro-batches,
    with the nearest values that fit.
    """
    total = config.train.global_batch
    if total % world:
        fitting = [count for count in range(1, total + 1) if total % count == 0]
        near = sorted(sorted(fitting, key=lambda count: abs(count - world))[:2])
        lower, upper = total // world * world, (total // world + 1) * world
        batches = " or ".join(str(value) for value in (lower, upper) if value)
        raise ClusterError(
            f"train.global_batch {total} does not divide over {world} ranks: use {' or '.join(map(str, near))} ranks, "
            f"or train.global_batch={batches}"
        )
    per_rank = total // world
    micro = config.train.micro_batch
    if micro == "auto":
        return per_rank
    if per_rank % micro:
        fits = [value for value in range(1, per_rank + 1) if per_rank % value == 0]
        near = sorted(sorted(fits, key=lambda value: abs(value - micro))[:2])
        raise ClusterError(
            f"train.micro_batch {micro} does not divide the {per_rank} pairs per rank (train.global_batch {total} over "
            f"{world} ranks): use {' or '.join(map(str, near))}, or auto"
        )
    return micro


def accumulation_steps(config: PretrainConfig, world: int) -> int:
    """Return micro-batches per rank and step. Raises ClusterError as `micro_batch` does."""
    return config.train.global_batch // (world * micro_batch(config, world))


def deepspeed_dictionary(config: PretrainConfig, world: int) -> dict[str, Any]:
    """Return every DeepSpeed setting that a run depends on, spelled out."""
    bf16 = config.train.precision == "bf16"
    return {
        "train_batch_size": config.train.global_batch,
        "train_micro_batch_size_per_gpu": micro_batch(config, world),
        "gradient_accumulation_steps": accumulation_steps(config, world),
        # An absent key clips at 1.0.
        "gradient_clipping": config.train.gradient_clipping,
        "steps_per_print": 2**31 - 1,
        "wall_clock_breakdown": False,
        "fp16": {"enabled": False},
        "bf16": {"enabled": bf16, "check_grad_overflow": True},
        "communication_data_type": "fp32",
        "prescale_gradients": False,
        "gradient_predivide_factor": 1.0,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": _zero_section(config),
    }


def _zero_section(config: PretrainConfig) -> dict[str, Any]:
    stage = config.zero.stage
    section: dict[str, Any] = {
        "stage": stage,
        "allgather_partitions": True,
        "allgather_bucket_size": 200_000_000,
        "reduce_scatter": True,
        "reduce_bucket_size": 200_000_000,
        "overlap_comm": False,
        "contiguous_gradients": True,
        "round_robin_gradients": False,
    }
    if config.zero.offload == "cpu":
        section["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if stage == 3:
        section |= {
            "sub_group_size": 1_000_000_000,
            "stage3_prefetch_bucket_size": 50_000_000,
            "stage3_param_persistence_threshold": 100_000,
            "stage3_max_live_parameters": 1_000_000_000,
            "stage3_max_reuse_distance": 1_000_000_000,
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    return section

"""The engine: accelerate starts the processes, DeepSpeed shards and averages. The only place that starts a group."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from msvl.config.errors import ClusterError
from msvl.data.batch import Batch
from msvl.training.config import PretrainConfig
from msvl.training.zero import deepspeed_dictionary


@dataclass(frozen=True)
class Engine:
    """A DeepSpeed engine around the root module, and where it runs."""

    deepspeed: Any
    device: torch.device

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Collective. Return the losses of this rank's share."""
        return self.deepspeed(batch.to(self.device))

    def backward_and_step(self, loss: Tensor, lr: float) -> None:
        """Collective. Average gradients over ranks, clip, update with learning rate `lr`, forget the gradients."""
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = lr
        self.deepspeed.backward(loss)
        self.deepspeed.step()

    @property
    def gradient_norm(self) -> float:
        """Norm of the whole gradient before clipping, of the last step."""
        norm = self.deepspeed.get_global_grad_norm()
        return float(norm) if norm is not None else float("nan")

    def facts(self) -> dict[str, Any]:
        """Return what is really on, read from the engine and not from the configuration."""
        engine = self.deepspeed
        return {
            "engine": "DeepSpeed",
            "zero_stage": engine.zero_optimization_stage(),
            "ranks": engine.world_size,
            "precision": "bf16" if engine.bfloat16_enabled() else "fp32",
            "micro_batch": engine.train_micro_batch_size_per_gpu(),
            "accumulation": engine.gradient_accumulation_steps(),
            "gradient_clipping": engine.gradient_clipping(),
            "device": str(self.device),
            "optimizer": type(engine.optimizer).__name__,
        }


def start_processes(config: PretrainConfig, world: int) -> Any:
    """Collective. Join the process group and return the Accelerator.

    Raises ClusterError when what came up is not what the launcher promised (accelerate can believe in one process while
    DeepSpeed runs on two).
    """
    from accelerate import Accelerator, DeepSpeedPlugin
    from accelerate.utils import InitProcessGroupKwargs

    backend = "nccl" if torch.cuda.is_available() else "gloo"
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    # Files from others never execute code, whatever loads them.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    plugin = DeepSpeedPlugin(hf_ds_config=deepspeed_dictionary(config, world), zero3_init_flag=False)
    accelerator = Accelerator(
        deepspeed_plugin=plugin,
        mixed_precision="bf16" if config.train.precision == "bf16" else "no",
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[
            InitProcessGroupKwargs(backend=backend, timeout=timedelta(minutes=config.train.timeout_minutes))
        ],
    )
    if accelerator.num_processes != world:
        raise ClusterError(
            f"the launcher started {world} ranks but the process group has {accelerator.num_processes}: start with "
            "`msvl train`, `accelerate launch` or `torchrun`"
        )
    return accelerator


def build_engine(accelerator: Any, module: nn.Module, optimizer: torch.optim.Optimizer) -> Engine:
    """Collective. Wrap the root module: parameters are broadcast from rank 0, optimizer states sharded by stage."""
    deepspeed_engine, _ = accelerator.prepare(module, optimizer)
    return Engine(deepspeed=deepspeed_engine, device=accelerator.device)

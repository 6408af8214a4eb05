"""The engine: accelerate starts the processes, DeepSpeed shards and averages. The only place that starts a group."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from msvl.config.errors import ClusterError
from msvl.data.batch import Batch
from msvl.training.accumulation import Accumulation, Kind
from msvl.training.config import PretrainConfig
from msvl.training.zero import deepspeed_dictionary


class Engine:
    """A DeepSpeed engine around the root module, and where it runs."""

    def __init__(self, deepspeed: Any, device: torch.device, *, accumulation: Kind) -> None:
        self.deepspeed = deepspeed
        self.device = device
        self._accumulation = Accumulation(deepspeed, parts=deepspeed.gradient_accumulation_steps(), kind=accumulation)
        self._kind = accumulation
        self.gradient_norm = float("nan")
        """Norm of the whole gradient before clipping, of the last step."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Collective. Return the losses of this rank's share, for reading only."""
        return self._accumulation.forward(batch.to(self.device))

    def backward_and_step(self, lr: float) -> None:
        """Collective. Average gradients over ranks, clip, update with learning rate `lr`, forget the gradients."""
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = lr * group["lr_share"]
        self._accumulation.backward()
        norm = None
        if self.deepspeed.zero_optimization_stage() == 0:  # DeepSpeed does not tell it without ZeRO
            gradients = [p.grad for p in self.deepspeed.module.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        self.deepspeed.step()
        norm = self.deepspeed.get_global_grad_norm() if norm is None else norm
        self.gradient_norm = float(norm) if norm is not None else float("nan")

    def forget(self) -> None:
        """Make no update from the last forward pass."""
        self._accumulation.forget()

    @property
    def skipped_steps(self) -> int:
        """Updates that DeepSpeed has left out since the run began, because a gradient was not finite."""
        return int(self.deepspeed.skipped_steps)

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
            "accumulation_kind": self._kind if engine.gradient_accumulation_steps() > 1 else "none",
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

    _quiet()
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    # Files from others never execute code, whatever loads them.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    plugin = DeepSpeedPlugin(hf_ds_config=deepspeed_dictionary(config, world), zero3_init_flag=False)
    with contextlib.redirect_stdout(io.StringIO()):  # DeepSpeed prints that its op is there
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


def build_engine(
    accelerator: Any, module: nn.Module, optimizer: torch.optim.Optimizer, *, accumulation: Kind = "cached"
) -> Engine:
    """Collective. Wrap the root module: parameters are broadcast from rank 0, optimizer states sharded by stage."""
    with contextlib.redirect_stdout(io.StringIO()):  # DeepSpeed prints how it loads its op
        deepspeed_engine, _ = accelerator.prepare(module, optimizer)
    return Engine(deepspeed=deepspeed_engine, device=accelerator.device, accumulation=accumulation)


def _quiet() -> None:
    """Keep the first screen readable: DeepSpeed logs its every setting, and torch warns of names that DeepSpeed uses."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed.*")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.distributed.*")

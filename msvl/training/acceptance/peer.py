"""open_clip's training loop, where it is installed, with the configuration's encoders, data and batch: what it takes beside ours.

Its own `train_one_epoch` and `ClipLoss` (local loss, gather with gradient) under DDP, as `open_clip_train.main` starts them; its loss
is the global scale alone. Our loader feeds it, so that only the loops differ.
"""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from msvl.collectives.reduce import maximum
from msvl.collectives.world import rank, world_size
from msvl.data.batch import Batch
from msvl.data.make_tokens import tokens_of_run
from msvl.data.planned_steps import Share
from msvl.data.stream import training_batches
from msvl.data.tokenise import ReportTokeniser
from msvl.models.heads import mean_over_tokens, to_unit_length
from msvl.models.msvl_model import MSVLModel
from msvl.training.acceptance.trained import peak_memory
from msvl.training.config import PretrainConfig
from msvl.training.engine import start_processes
from msvl.training.prepare import Prepared
from msvl.training.run import build_module


def measure_open_clip(prepared: Prepared, *, warm_up: int, steps: int) -> dict[str, float]:
    """Collective. Train for so many steps; return pairs per second, seconds per step, share of waiting and peak memory.

    Args:
        prepared: Configuration and data; `data.target_scale` must be 1.
        warm_up: Steps before, not counted.
        steps: Steps that are counted.
    """
    from open_clip.loss import ClipLoss
    from open_clip_train.train import train_one_epoch

    config = prepared.config
    device = start_processes(config, prepared.rank.world_size).device
    tokeniser = ReportTokeniser(prepared.tokenizer, config.data.report)
    towers = Towers(build_module(config, prepared.packed, tokeniser).model).to(device)
    model = DistributedDataParallel(towers, device_ids=[device] if device.type == "cuda" else None)
    loader = _Loader(_batches(prepared, tokeniser), pairs=config.train.global_batch)
    loss = ClipLoss(local_loss=True, gather_with_grad=True, cache_labels=True, rank=rank(), world_size=world_size())
    trained = [parameter for parameter in towers.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.optimizer.lr, betas=config.optimizer.betas)
    arguments = _arguments(config, device)

    def run(count: int) -> float:
        loader.begin(count)
        _finish(device)
        began = time.perf_counter()
        train_one_epoch(model, {"train": loader}, loss, 0, optimizer, None, None, None, arguments)
        _finish(device)
        return time.perf_counter() - began

    run(warm_up)
    seconds = maximum(torch.tensor([run(steps)], dtype=torch.float64, device=device)).item()
    waited = maximum(torch.tensor([loader.waited], dtype=torch.float64, device=device)).item()
    found = {
        "pairs_per_second": steps * config.train.global_batch / seconds,
        "step_seconds": seconds / steps,
        "waiting_share": waited / seconds,
    }
    memory = {f"{kind}_gb": value for kind, value in peak_memory().items()}
    most = maximum(torch.tensor(list(memory.values()), dtype=torch.float64, device=device)).tolist()
    return found | dict(zip(memory, most, strict=True))


class Towers(nn.Module):
    """The model's encoders and their projections as open_clip calls a model; nothing else of it is trained."""

    def __init__(self, model: MSVLModel) -> None:
        super().__init__()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for part in ("image_encoder", "text_encoder", "image_projection", "text_projection"):
            for parameter in model.get_submodule(part).parameters():
                parameter.requires_grad_(True)
        self.model = model
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        """Return features of unit length [b, C] and the scale.

        Args:
            images: [b, 1, H, W] grey values 0 to 255.
            texts: [b, 2, L]: ids and attention mask of the tokens.
        """
        model, (tokens, attention) = self.model, texts.unbind(dim=1)
        image = model.image_encoder(model.standardise(images))
        image_features = image.cls if model.image_pooling == "cls" else image.patches.mean(dim=1)
        hidden = model.text_encoder(tokens, attention)
        text_features = hidden[:, 0] if model.text_pooling == "cls" else mean_over_tokens(hidden, attention)
        return {
            "image_features": to_unit_length(model.image_projection(image_features)),
            "text_features": to_unit_length(model.text_projection(text_features)),
            "logit_scale": self.logit_scale.exp(),
        }


@dataclass
class _Loader:
    """What open_clip's loop asks of its data, over our batches; adds up how long it waited for them."""

    batches: Iterator[Batch]
    pairs: int
    """Of the global batch."""
    num_batches: int = 0
    waited: float = 0.0

    @property
    def num_samples(self) -> int:
        """Pairs of an epoch."""
        return self.num_batches * self.pairs

    @property
    def dataloader(self) -> _Loader:
        """Itself."""
        return self

    def begin(self, batches: int) -> None:
        """Make the next epoch so many batches long."""
        self.num_batches, self.waited = batches, 0.0

    def set_epoch(self, epoch: int) -> None:
        """Go on where the last epoch ended."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images and tokens of an epoch."""
        for _ in range(self.num_batches):
            began = time.perf_counter()
            batch = next(self.batches)
            self.waited += time.perf_counter() - began
            yield batch.images, torch.stack([batch.tokens.input_ids, batch.tokens.attention_mask], dim=1)


def _batches(prepared: Prepared, tokeniser: ReportTokeniser) -> Iterator[Batch]:
    data, sets = prepared.config.data, prepared.data.sets
    stored = None
    if data.token_ids == "stored":
        stored = tokens_of_run(sets, data.train_split, tokeniser, data.report)
    share = Share(prepared.config.train.global_batch, rank(), world_size())
    return training_batches(prepared.data.plan, data, tokeniser, share, start_step=0, stored=stored)


def _arguments(config: PretrainConfig, device: torch.device) -> Namespace:
    """Return the flags of open_clip's loop that such a run has."""
    bf16 = config.train.precision == "bf16"
    return Namespace(
        device=str(device), precision="amp_bf16" if bf16 else "fp32", distill=False, accum_freq=1, skip_scheduler=True,
        horovod=False, grad_clip_norm=config.train.gradient_clipping or None, log_every_n_steps=10**9, wandb=False,
        batch_size=config.train.global_batch // world_size(), world_size=world_size(), rank=rank(),
    )  # fmt: skip


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

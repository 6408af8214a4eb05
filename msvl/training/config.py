"""The configuration of a pretraining run: sections composed from where they belong (no torch here)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from msvl.config.base import Config
from msvl.data.config import DataConfig
from msvl.models.config import ModelConfig
from msvl.objectives.config import ObjectivesConfig


class RunConfig(Config):
    """Name and place of the run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run folder."""
    folder: str = "runs"
    """Where run folders lie."""


class TrainConfig(Config):
    """How long and how much at once."""

    steps: PositiveInt
    """Optimizer steps."""
    global_batch: PositiveInt
    """Pairs per optimizer step over all ranks."""
    micro_batch: PositiveInt | Literal["auto"] = "auto"
    """Pairs per rank and forward pass; auto is global_batch / ranks. Less memory with smaller ones, see `accumulation`."""
    accumulation: Literal["cached", "plain"] = "cached"
    """How several micro-batches per rank make one step. 'cached' gives the gradients of the whole global batch for about a
    third more time; 'plain' contrasts each micro-batch with itself alone, which is another objective."""
    seed: int = Field(0, ge=0)
    """Seeds parameters, data order, masks and negatives."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward and backward pass."""
    threads_per_rank: int = Field(0, ge=0)
    """CPU threads per rank; 0 is cores / ranks of this machine."""
    gradient_clipping: NonNegativeFloat = 1.0
    """Largest gradient norm; 0 turns clipping off."""
    log_every: PositiveInt = 10
    """Steps between lines of metrics.jsonl and the progress bar."""
    save_every: PositiveInt = 1000
    """Steps between checkpoints."""
    keep: PositiveInt = 2
    """Newest checkpoints kept beside the best ones."""
    keep_best: PositiveInt = 1
    """Best checkpoints kept, by validation.best_metric."""
    background_saves: bool = True
    """Write checkpoints while training goes on: needs the CPU memory of one more copy of what a rank saves."""
    check_collectives: bool = False
    """Before every collective of msvl, compare operation, shape and dtype between ranks (slow; for finding a hang)."""
    timeout_minutes: PositiveFloat = 30.0
    """A collective that waits longer ends the run."""
    watchdog_minutes: NonNegativeFloat = 10.0
    """A step that takes longer, or a start, a judgement or a save that takes twice as long, is a hang: the page in `hang/` says
    who, and the attempt ends for a requeue. 0 turns it off."""


class OptimizerConfig(Config):
    """AdamW with a cosine schedule."""

    lr: PositiveFloat = 2.5e-4
    """Peak learning rate (MaCo)."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's (MaCo)."""
    weight_decay: NonNegativeFloat = 0.05
    """On matrices only; biases, norms, positions and temperatures have none (MaCo, MAE)."""
    warmup_steps: int = Field(0, ge=0)
    """Linear warm-up from 0."""
    text_lr_share: float = Field(1.0, gt=0, le=1)
    """Learning rate of the text tower as a share of `lr`; below 1 a random text tower stays a target to align to."""
    final_lr_share: float = Field(0.0, ge=0, le=1)
    """Learning rate at the last step as a share of the peak."""


class ZeroConfig(Config):
    """DeepSpeed's ZeRO."""

    stage: Literal[0, 1, 2, 3] = 2
    """0 averages gradients; 1 shards optimizer states, 2 gradients too, 3 parameters too."""
    offload: Literal["none", "cpu"] = "none"
    """Where optimizer states live; cpu needs DeepSpeed's CPU Adam."""


class BadBatchConfig(Config):
    """What happens to a batch whose loss is not finite or leaps up, decided by all ranks before the update.

    skip makes no update; roll_back puts weights and optimizer back to the newest checkpoint too and goes on after the batch; stop
    ends the run. Each is logged with the batch's sample keys, in `bad_batches.jsonl` too.
    """

    not_finite: Literal["stop", "skip", "roll_back"] = "stop"
    """Where any rank's loss is not finite."""
    spike: Literal["ignore", "skip", "roll_back", "stop"] = "ignore"
    """Where the total loss is above `spike_factor` times the mean of the last `window` good ones."""
    spike_factor: float = Field(2.0, gt=1)
    """See `spike`."""
    window: PositiveInt = 50
    """See `spike`; no batch is called a spike before there are so many."""
    most: PositiveInt = 20
    """More bad batches than this in a run stop it: something else is wrong."""


BestMetric = Literal[
    "zero_shot.auc_mean", "zero_shot.auc_mean_local", "zero_shot.auc_mean_both", "retrieval.report_r1", "retrieval.report_r5",
    "retrieval.report_r10", "retrieval.image_r1", "retrieval.image_r5", "retrieval.image_r10", "ridge_probe.auc_mean",
]  # fmt: skip
"""What a judgement during training measures and where more is better."""


class ValidationConfig(Config):
    """Judgement during training, by the evaluation code."""

    every: PositiveInt = 1000
    """Steps between judgements; the last step is always judged."""
    samples: PositiveInt = 512
    """Held-out studies used."""
    best_metric: BestMetric = "retrieval.report_r5"
    """Metric of the judgement that chooses checkpoints/best (larger is better)."""


class WandbConfig(Config):
    """Weights & Biases."""

    enabled: bool = True
    """Off writes metrics.jsonl only. Offline unless an API key is there."""
    project: str = "msvl"
    """Project name."""
    entity: str | None = None
    """Team; null is the user's default."""


class PretrainConfig(Config):
    """A pretraining run."""

    run: RunConfig
    data: DataConfig
    model: ModelConfig = ModelConfig()
    objectives: ObjectivesConfig = ObjectivesConfig()
    train: TrainConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    zero: ZeroConfig = ZeroConfig()
    bad_batch: BadBatchConfig = BadBatchConfig()
    validation: ValidationConfig = ValidationConfig()
    wandb: WandbConfig = WandbConfig()

    @model_validator(mode="after")
    def _check(self) -> PretrainConfig:
        if self.data.image_size % self.model.image.patch:
            lower = self.data.image_size // self.model.image.patch * self.model.image.patch
            raise ValueError(
                f"data.image_size {self.data.image_size} must be a multiple of model.image.patch {self.model.image.patch}: "
                f"nearest are {lower} and {lower + self.model.image.patch}"
            )
        acts = {self.bad_batch.not_finite, self.bad_batch.spike} & {"skip", "roll_back"}
        if acts and self.train.accumulation == "plain":
            raise ValueError(
                f"bad_batch: {' and '.join(sorted(acts))} cannot take back the micro-batches that train.accumulation=plain has "
                "added already: use train.accumulation=cached, or stop"
            )
        return self

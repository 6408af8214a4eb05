"""How a task is run, as a protocol card says it: typed, so that a card cannot ask for what does not exist (no torch here)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from msvl.config.base import Config

Ratio = Literal["1", "10", "100"]
"""Percent of the training labels."""


class Schedule(Config):
    """Length and peak learning rate at one share of the labels."""

    steps: PositiveInt
    """Optimizer steps."""
    lr: PositiveFloat
    """Peak learning rate."""
    warmup: int = Field(0, ge=0)
    """Steps of linear warm-up from 0."""


class ProbeRecipe(Config):
    """A linear classifier on frozen features."""

    kind: Literal["logistic", "adamw"] = "logistic"
    """'logistic': to the optimum, strength chosen on a fifth of the training patients; 'adamw': MGCA's 50 epochs."""
    lr: PositiveFloat = 5e-4
    """Of AdamW (MGCA)."""
    weight_decay: NonNegativeFloat = 1e-6
    """Of AdamW (MGCA)."""
    batch: PositiveInt = 48
    """Images per step of AdamW (MGCA)."""
    epochs: PositiveInt = 50
    """At most (MGCA)."""
    patience: PositiveInt = 10
    """Epochs without a lower validation loss until it stops (MGCA)."""
    ratios: tuple[Ratio, ...] = ("1", "10", "100")
    """Shares of the labels."""


class FineTuneRecipe(Config):
    """Every weight is trained on for classification."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer; sgd has no weight decay in MRM and MaCo."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of sgd."""
    weight_decay: NonNegativeFloat = 0.0
    """On matrices."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Learning rate of a block as a share of that of the block above it."""
    backbone_lr_share: float = Field(1.0, gt=0, le=1)
    """Learning rate of the encoder as a share of the head's (BenchX's switch DLR: 0.1)."""
    drop_path: float = Field(0.1, ge=0, lt=1)
    """Largest chance that a block's branch is skipped; grows linearly with depth."""
    pooling: Literal["mean", "cls"] = "mean"
    """What the head reads: the mean of the patch tokens, or CLS."""
    head_norm: bool = True
    """A fresh LayerNorm before the head, in place of the encoder's last one (BenchX's switch LN)."""
    head_std: PositiveFloat = 2e-5
    """Of the head's initial weights (a truncated normal; BenchX's switch TNI)."""
    batch: PositiveInt = 96
    """Images per step."""
    clip: NonNegativeFloat = 1.0
    """Largest gradient norm; 0 is none."""
    crop: tuple[float, float] = (0.08, 1.0)
    """Range of the random crop's share of the area."""
    flip: bool = True
    """Mirror half of the training images."""
    judged: PositiveInt = 20
    """Times that the validation split is judged, evenly over the steps; the best one is kept."""
    lr_factors: tuple[PositiveFloat, ...] = Field((1.0,), min_length=1)
    """The whole training is done at each of these times the peak learning rate, and the best on val is kept."""
    schedules: dict[Ratio, Schedule]
    """Per share of the labels: linear warm-up, then cosine to 0."""


class SegmentationRecipe(Config):
    """A mask head on the image encoder."""

    head: Literal["upernet", "linear"] = "upernet"
    """'upernet': a pyramid of four blocks; 'linear': one linear layer on the last block's patches."""
    channels: PositiveInt | None = None
    """Channels of the pyramid; null is the encoder's width (MaCo: 768 of 768)."""
    prior: float | None = Field(None, gt=0, lt=1)
    """Probability that a fresh head gives every pixel (RetinaNet's start for the focal loss: 0.01); null leaves it to chance."""
    freeze: bool = False
    """Train the head alone."""
    size: PositiveInt | None = None
    """Side of the square in pixels; null is the encoder's own."""
    focal: NonNegativeFloat = 2.0
    """Weight of the focal loss (gamma 2)."""
    dice: NonNegativeFloat = 1.0
    """Weight of the soft Dice loss of the foreground."""
    cross_entropy: NonNegativeFloat = 0.0
    """Weight of the cross entropy."""
    auxiliary: NonNegativeFloat = 0.4
    """Weight of the same losses on the auxiliary head of the third pyramid level."""
    layer_decay: float = Field(0.65, gt=0, le=1)
    """As in fine-tuning."""
    weight_decay: NonNegativeFloat = 0.05
    """Of AdamW, on matrices."""
    drop_path: float = Field(0.1, ge=0, lt=1)
    """As in fine-tuning."""
    batch: PositiveInt = 8
    """Images per step."""
    flip: float = Field(0.5, ge=0, le=1)
    """Chance that a training image is mirrored."""
    judged: PositiveInt = 20
    """Times that the validation split is judged; the best one is kept."""
    schedules: dict[Ratio, Schedule]
    """Per share of the labels: linear warm-up, then linear to 0 (poly, power 1)."""


class ZeroShotRecipe(Config):
    """Prompts against images."""

    prompts: str
    """Prompt set, a file of `msvl/evaluation/prompt_sets/`, or 'own' for the packed set's."""
    names: dict[str, str] = {}
    """Finding -> its words in a published prompt set, where they are not its name."""
    ensemble: Literal["mean", "max"] = "mean"
    """Over the prompts of a side: normalised mean embedding (CheXzero, BioViL), or the largest cosine (GLoRIA's code)."""
    score: Literal["global", "local", "both"] = "global"
    """Image against prompt, best patch against prompt, or the mean of both (GLoRIA)."""
    threshold: Literal["youden", "f1"] = "youden"
    """How the threshold of F1 and accuracy is chosen."""
    threshold_split: Literal["val", "test"] = "val"
    """Labels that it is chosen on; 'test' is how some papers did it, and flatters."""


class GroundingRecipe(Config):
    """Phrase against patches."""

    resolution: Literal["image", "square"] = "image"
    """Judged on the stored image with nothing outside the crop, or on the model's square."""
    sigma: NonNegativeFloat = 1.5
    """Gaussian on the patch grid, in patches of a 14 x 14 grid (other grids: in proportion)."""
    stretched: bool = True
    """mIoU on maps stretched to [-1, 1] (MaCo), or on the cosines themselves (BioViL)."""
    average: Literal["micro", "category"] = "micro"
    """Headline: mean over pairs, or over categories."""


class RetrievalRecipe(Config):
    """Images against reports."""

    fold: PositiveInt | None = None
    """Gallery of random folds of this size besides the full one; null is the full one alone."""

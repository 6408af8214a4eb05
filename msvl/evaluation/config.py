"""Configuration of the judgement (no torch here)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from msvl.config.base import Config

TaskName = Literal["zero_shot", "retrieval", "grounding", "linear_probe", "ridge_probe", "pixel_baseline"]
"""All tasks; `msvl.evaluation.tasks.TASKS` holds the code."""

DEFAULT_TASKS: tuple[TaskName, ...] = ("zero_shot", "retrieval", "grounding", "linear_probe", "pixel_baseline")
"""What `msvl evaluate` runs, in the order of its tables; the ridge probe is the fast one for use during training."""

PROBING_TASKS: frozenset[str] = frozenset({"linear_probe", "ridge_probe", "pixel_baseline"})
"""Tasks that need labelled training studies."""


class EvaluationConfig(Config):
    """How a model is judged."""

    tasks: tuple[TaskName, ...] = DEFAULT_TASKS
    """Tasks to run."""
    strict: bool = False
    """Stop when the data cannot judge a task (no boxes, no labels), instead of leaving it out and saying why."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap draws over patients (CheXzero: 1,000); 0 gives no intervals, as during training."""
    seed: int = Field(default=0, ge=0)
    """Seeds the bootstrap, the untrained twin and the choice of examples."""
    batch_size: PositiveInt = 64
    """Images per forward pass."""
    zero_shot_score: Literal["global", "local", "both"] = "global"
    """Headline: 'global' cosine of image and prompt (MaCo, CheXzero), 'local' best patch, 'both' the mean (GLoRIA)."""
    grounding_sigma: NonNegativeFloat = 0.0
    """Gaussian on the patch grid before upsampling, in patches (BioViL, MaCo: 1.5 on 14 x 14); 0 suits small grids."""
    probe_samples: PositiveInt = 2000
    """Training studies that the probe and the pixel baseline see at most."""
    train_subset: str | None = None
    """List of `msvl data subset`: probes and fine-tuning learn from these training samples alone."""
    examples: int = Field(default=8, ge=0)
    """Grounding overlays and sample pairs kept for the report page."""

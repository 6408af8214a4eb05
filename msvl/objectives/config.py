"""Configuration of the four scales (no torch here). Weight 0 turns a scale off."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from msvl.config.base import Config

Duplicates = Literal["exclude", "positive", "keep"]
DUPLICATES_DOC = """What other samples of the same report text, study or patient do in a contrastive denominator:
'exclude' takes them out (58 % of real IMPRESSIONs share their text with another report; the default, because one of two
equal texts need not fit the other's image in what it leaves unsaid), 'positive' makes samples that read the same text
further positives and takes the rest out, 'keep' makes them negatives (the published losses)."""


class GlobalScaleConfig(Config):
    """Contrast of images and reports (L_g)."""

    weight: NonNegativeFloat = 1.0
    """l1 of the paper's total."""
    loss: Literal["infonce", "sigmoid"] = "infonce"
    """'infonce' is the paper's, both directions; 'sigmoid' is SigLIP's: every pair is a yes or no of its own (start at
    temperature 0.1)."""
    sigmoid_bias: float = -10.0
    """Initial bias of the sigmoid loss, learnable (SigLIP)."""
    temperature: PositiveFloat = 0.07
    """Initial tau1, learnable (the paper)."""
    duplicates: Duplicates = "exclude"
    """See DUPLICATES_DOC."""


class LocalScaleConfig(Config):
    """GLoRIA's localized matching with sentences as units (L_l)."""

    weight: NonNegativeFloat = 1.0
    """l2 of the paper's total."""
    attention_temperature: PositiveFloat = 4.0
    """temp1 (GLoRIA)."""
    unit_temperature: PositiveFloat = 5.0
    """temp2 of the log-sum-exp over sentences (GLoRIA)."""
    logit_scale: PositiveFloat = 10.0
    """temp3 = 1 / tau2 (GLoRIA)."""
    normalise_over: Literal["units_then_patches", "patches"] = "units_then_patches"
    """First softmax over a report's sentences, as in GLoRIA (uniform attention for one sentence); or patches only."""
    unit_length: bool = False
    """Bring patches and sentences to unit length before the attention (MGCA), so that every patch counts by its cosine, the
    value of a grounding map; off is GLoRIA's."""
    aggregation: Literal["sum", "mean"] = "sum"
    """Over a report's sentences: 'sum' is GLoRIA's log sum exp, which favours reports with more sentences by log Nt for
    every image; 'mean' takes that off (log mean exp)."""
    tile: int = Field(0, ge=0)
    """Reports scored at once; 0 chooses by memory."""
    duplicates: Duplicates = "exclude"
    """See DUPLICATES_DOC."""


class InstanceScaleConfig(Config):
    """Image-report matching on hard negatives from all ranks (L_im)."""

    weight: NonNegativeFloat = 1.0
    """l3 of the paper's total."""
    width: int = Field(0, ge=0)
    """Hidden channels of the two-layer matching head; 0 takes the shared channels."""
    temperature: PositiveFloat = 0.07
    """Temperature of the draw: probability of a negative grows with exp(similarity / temperature) (ALBEF's rule)."""
    duplicates: Literal["exclude", "keep"] = "exclude"
    """'exclude' never draws a negative of the same report text, study or patient; 'keep' may draw every other pair (ALBEF)."""


class ModalityScaleConfig(Config):
    """Masked autoencoding, masked language modelling and their cross-sample term (L_mr)."""

    weight: NonNegativeFloat = 1.0
    """l4 of the paper's total."""
    image_weight: NonNegativeFloat = 1.0
    """Weight of L_mae inside L_mr (the paper: 1)."""
    text_weight: NonNegativeFloat = 1.0
    """Weight of L_mlm inside L_mr (the paper: 1)."""
    cross_sample_weight: NonNegativeFloat = 0.0
    """Weight of the masked-against-unmasked contrast per modality inside L_mr; 0 is the paper's objective exactly."""
    temperature: PositiveFloat = 0.07
    """Initial temperature of the cross-sample term, learnable."""
    duplicates: Literal["exclude", "keep"] = "exclude"
    """See DUPLICATES_DOC; two images of equal reports are no positives of each other."""


class CustomObjectiveConfig(Config):
    """An objective of the user's own."""

    class_: str = Field(alias="class")
    """Import path `package.module:Class` of a module built with `channels`, `seed` and the options, whose forward takes a
    `StepContext` and returns a `ScaleOutput` (msvl/objectives/scale.py)."""
    weight: NonNegativeFloat = 1.0
    """In the total."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of its constructor."""


class ObjectivesConfig(Config):
    """The weighted sum L = l1 L_g + l2 L_l + l3 L_im + l4 L_mr, and objectives of the user's own."""

    global_: GlobalScaleConfig = Field(GlobalScaleConfig(), alias="global")
    local: LocalScaleConfig = LocalScaleConfig()
    instance: InstanceScaleConfig = InstanceScaleConfig()
    modality: ModalityScaleConfig = ModalityScaleConfig()
    custom: dict[str, CustomObjectiveConfig] = Field(default_factory=dict)
    """Name -> objective. `msvl gradcheck` checks it with the others."""

    @model_validator(mode="after")
    def _check(self) -> ObjectivesConfig:
        taken = sorted(set(self.custom) & {"global", "local", "instance", "modality", "total"})
        if taken:
            raise ValueError(f"custom: the name '{taken[0]}' is taken, choose another")
        own = (self.global_.weight, self.local.weight, self.instance.weight, self.modality.weight)
        if not any((*own, *(custom.weight for custom in self.custom.values()))):
            raise ValueError("every scale has weight 0, so nothing would be trained: set a scale's weight above 0")
        return self

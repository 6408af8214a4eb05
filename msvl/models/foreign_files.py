"""What a person says of a checkpoint that msvl did not write, and the strict reading of its weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from msvl.config.base import Config
from msvl.config.errors import CheckpointError
from msvl.models.foreign_text import ForeignText

KEY = "the foreign checkpoint"


class ForeignCheckpoint(Config):
    """What a person knows of a checkpoint that msvl did not write: a YAML file."""

    format: Literal[
        "huggingface", "timm_vit", "jeonsworld_vit", "torchvision_resnet", "sequential_resnet", "openai_clip"
    ]
    """How its weights are named; 'huggingface' is a local folder of ViT, ViT-MAE, ResNet or CLIP."""
    path: str
    """File (.safetensors, or anything that torch.load reads safely) or folder."""
    prefix: str = ""
    """What stands before the encoder's names, such as `img_encoder_q.model.`."""
    image_size: PositiveInt = 224
    """Side of the square in pixels."""
    heads: PositiveInt = 12
    """Attention heads of a ViT, which its weights do not tell."""
    pixel_mean: float | tuple[float, float, float] = 0.4978
    """Mean value in [0, 1] that it was trained with (MRM, MaCo); three where its channels have their own (ImageNet, CLIP)."""
    pixel_std: PositiveFloat | tuple[PositiveFloat, PositiveFloat, PositiveFloat] = 0.2449
    """Standard deviation (MRM, MaCo), or three."""
    pooling: Literal["cls", "mean"] = "cls"
    """Global feature of a ViT; a ResNet, and a ViT with `fc_norm`, are averaged."""
    layer_norm_eps: float = Field(1e-6, gt=0)
    """Of a ViT (timm, MAE; transformers' own default is 1e-12)."""
    text: ForeignText | None = None
    """Its text side; null judges the image encoder alone. A CLIP needs its tokenizer here and nothing else."""

    @model_validator(mode="after")
    def _check(self) -> ForeignCheckpoint:
        if (
            self.format == "openai_clip"
            and self.text is not None
            and (self.text.projection or self.text.image_projection)
        ):
            raise ValueError(
                "openai_clip has its projections at known names: leave text.projection and image_projection out"
            )
        return self


def read_weights(path: Path) -> object:
    """Return what a file of weights holds, without running code. Raises CheckpointError naming the file."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except (OSError, SafetensorError, EOFError, RuntimeError) as error:
        if "TorchScript" in str(error):  # as OpenAI publishes CLIP
            raise CheckpointError(
                f"{path} is a TorchScript program and no file of weights: where you trust it, save its weights once by "
                f"torch.save(torch.jit.load('{path.name}', map_location='cpu').state_dict(), 'weights.pt') and name that file"
            ) from error
        raise CheckpointError(f"{path} cannot be read ({' '.join(str(error).split())[:150]}): copy it again") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds Python objects besides tensors, which could run code when they are loaded: save its state dict "
            "alone where you trust it"
        ) from error


def fill(network: nn.Module, state: dict[str, Tensor], described: ForeignCheckpoint) -> None:
    """Load strictly, except for counters of batch norms that old files lack."""
    expected = network.state_dict()
    counters = {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}
    state = counters | {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    require(described, state, *expected)
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise CheckpointError(f"{described.path}: {name} has shape {list(state[name].shape)}, expected {list(value.shape)}")  # fmt: skip
    network.load_state_dict({name: state[name] for name in expected})


def require(described: ForeignCheckpoint, state: dict[str, Tensor], *names: str) -> None:
    """Raise CheckpointError unless all these weights are there."""
    missing = [name for name in names if name not in state]
    if missing:
        raise CheckpointError(
            f"{described.path} lacks {len(missing)} weights of format {described.format}, the first is {missing[0]}: is "
            f"prefix '{described.prefix}' right?"
        )


def check_image_size(described: ForeignCheckpoint, own: object) -> None:
    """Raise CheckpointError when positions are for another image size: moved ones would be another model."""
    if own != described.image_size:
        raise CheckpointError(f"{described.path}: its positions are for images of {own} px: set image_size to that")

"""Other people's CLIP: both towers, from OpenAI's names or a transformers folder."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from transformers import (
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from msvl.config.errors import CheckpointError
from msvl.models.families.encoded import EncodedImage
from msvl.models.families.published import load_published_model, refuse_missing
from msvl.models.foreign_files import KEY, ForeignCheckpoint, check_image_size, fill, read_weights, require
from msvl.models.foreign_maps import openai_clip, unpack
from msvl.models.foreign_pixels import Planes, planes_of
from msvl.models.foreign_text import ClipTower, Projections

CLIP_HEAD = 64
"""Channels per attention head of every CLIP that OpenAI published."""


class ClipImageEncoder(nn.Module):
    """CLIP's image transformer: the class token after the last norm, patches before it."""

    def __init__(self, network: CLIPVisionModelWithProjection, planes: Planes) -> None:
        """Wrap a network that reads grey images as `planes`."""
        super().__init__()
        self.network, self._planes = network, planes
        self.width: int = network.config.hidden_size
        self.patch = network.vision_model.embeddings.patch_embedding.weight.shape[-1]

    def forward(self, pixels: Tensor, visible: Tensor | None = None) -> EncodedImage:
        """Encode [B, 1, H, W]; `visible` is not offered. Raises CheckpointError when it is given."""
        if visible is not None:
            raise CheckpointError("a foreign CLIP cannot leave out patches")
        found = self.network.vision_model(pixel_values=self._planes(pixels))
        return EncodedImage(cls=found.pooler_output, patches=found.last_hidden_state[:, 1:])


def build_clip(described: ForeignCheckpoint) -> tuple[ClipImageEncoder, ClipTower | None, Projections | None]:
    """Return its two towers, filled, and its projections; image encoder alone without `text`. Raises CheckpointError."""
    if described.format == "huggingface":
        whole, missing = load_published_model(CLIPModel, described.path, key=KEY)
        refuse_missing(sorted(missing), name=described.path, key=KEY)
        state, heads, act = (
            whole.state_dict(),
            whole.config.vision_config.num_attention_heads,
            whole.config.vision_config.hidden_act,
        )
        text_heads = whole.config.text_config.num_attention_heads
    else:
        state, act, heads, text_heads = (
            openai_clip(unpack(read_weights(Path(described.path)), described.prefix)),
            "quick_gelu",
            None,
            None,
        )
    vision = CLIPVisionModelWithProjection(_clip_vision(described, state, heads, act))
    check_image_size(described, vision.config.image_size)
    fill(vision, state, described)
    encoder = ClipImageEncoder(vision, planes_of(described, vision.config.num_channels))
    if described.text is None:
        return encoder, None, None
    network = CLIPTextModelWithProjection(_clip_text(described, state, text_heads, act))
    fill(network, state, described)
    return encoder, ClipTower(network), Projections.of_image(vision.visual_projection)


def _clip_vision(
    described: ForeignCheckpoint, state: dict[str, Tensor], heads: int | None, act: str
) -> CLIPVisionConfig:
    names = ("vision_model.embeddings.patch_embedding.weight", "vision_model.embeddings.position_embedding.weight",
             "vision_model.encoder.layers.0.mlp.fc1.weight", "visual_projection.weight")  # fmt: skip
    require(described, state, *names)
    patches, positions, hidden, projection = (state[name] for name in names)
    side = round((len(positions) - 1) ** 0.5) * patches.shape[-1]
    return CLIPVisionConfig(
        hidden_size=patches.shape[0], intermediate_size=hidden.shape[0], num_hidden_layers=_depth(state, "vision_model"),
        num_attention_heads=heads or patches.shape[0] // CLIP_HEAD, image_size=side, patch_size=patches.shape[-1],
        projection_dim=projection.shape[0], hidden_act=act,
    )  # fmt: skip


def _clip_text(described: ForeignCheckpoint, state: dict[str, Tensor], heads: int | None, act: str) -> CLIPTextConfig:
    names = ("text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight",
             "text_model.encoder.layers.0.mlp.fc1.weight", "text_projection.weight")  # fmt: skip
    require(described, state, *names)
    words, positions, hidden, projection = (state[name] for name in names)
    return CLIPTextConfig(
        vocab_size=len(words), hidden_size=words.shape[1], intermediate_size=hidden.shape[0],
        num_hidden_layers=_depth(state, "text_model"), num_attention_heads=heads or words.shape[1] // CLIP_HEAD,
        max_position_embeddings=len(positions), projection_dim=projection.shape[0], hidden_act=act,
        eos_token_id=len(words) - 1, bos_token_id=len(words) - 2, pad_token_id=len(words) - 1,
    )  # fmt: skip


def _depth(state: dict[str, Tensor], side: str) -> int:
    start = f"{side}.encoder.layers."
    return 1 + max(int(name.removeprefix(start).split(".")[0]) for name in state if name.startswith(start))

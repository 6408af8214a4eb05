"""Text towers and projections of other people's checkpoints: what zero-shot tasks need beside the image encoder.

B batch, L tokens, E text channels, C shared channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from einops import rearrange
from pydantic import PositiveInt
from torch import Tensor, nn
from transformers import BertConfig, BertModel, CLIPTextModelWithProjection

from msvl.config.base import Config
from msvl.config.errors import CheckpointError, ConfigError
from msvl.data.batch import Tokens
from msvl.models.foreign_maps import State, refuse_strange
from msvl.models.heads import mean_over_tokens, to_unit_length
from msvl.models.outputs import TextEmbeddings

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
LAYER_NORM_EPS = 1e-12
"""Of BERT and of its projections (transformers' default)."""


class ForeignText(Config):
    """The text side of a checkpoint whose two sides meet in one space."""

    tokenizer: str
    """Local folder of its tokenizer."""
    path: str | None = None
    """File of the text tower; null is the image encoder's."""
    prefix: str = ""
    """What stands before BertModel's names, such as `text_encoder.model.`."""
    heads: PositiveInt = 12
    """Attention heads of a BERT, which its weights do not tell."""
    max_tokens: PositiveInt = 256
    """Longer texts are cut."""
    pooling: Literal["cls", "mean", "last"] = "cls"
    """What stands for a text: the first token, the mean of all, or the last one that is no padding."""
    positions: bool = True
    """False gives every token position 0, as MGCA's code does."""
    projection: tuple[str, ...] = ()
    """Layers from the text's features to the shared space, in order: names in the file, `relu` and `gelu`."""
    image_projection: tuple[str, ...] = ()
    """The same for the image's features."""
    patch_projection: tuple[str, ...] = ()
    """The same for patches; without it there is no grounding. It may be the image's."""
    image_from: Literal["features", "patches"] = "features"
    """'patches': the image's embedding is the mean of the projected patches (BioViL)."""


class PlainTokeniser:
    """A published tokenizer as judgement asks for it; a whole text is one unit."""

    def __init__(self, folder: str, max_tokens: int) -> None:
        """Load it from a local folder. Raises CheckpointError."""
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"text.tokenizer: no tokenizer could be loaded from '{folder}': name a local folder") from error  # fmt: skip
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._max_tokens = max_tokens

    def encode(self, reports: Sequence[Sequence[str]]) -> Tokens:
        """Tokenise reports given as lists of sentences, with the tokenizer's own special tokens."""
        texts = [" ".join(sentences) for sentences in reports]
        found = self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        ids, mask = found["input_ids"], found["attention_mask"]
        return Tokens(ids, mask, torch.where(mask > 0, 0, -1), torch.ones(len(texts), 1, dtype=torch.bool))

    def encode_prompts(self, prompts: Sequence[str]) -> Tokens:
        """Tokenise prompts."""
        return self.encode([[prompt] for prompt in prompts])


class TextTower(Protocol):
    """Tokens to features in the shared space."""

    def __call__(self, tokens: Tokens) -> Tensor:
        """Return [B, C], not normalised."""


def embedded_text(tower: TextTower, tokens: Tokens) -> TextEmbeddings:
    """Embed texts; the whole text is its only sentence, so that a phrase meets patches as it meets images."""
    features = tower(tokens).float()
    return TextEmbeddings(to_unit_length(features), rearrange(features, "b c -> b 1 c"), tokens.sentence_mask)


class BertTower(nn.Module):
    """A BERT with the projection that its file brings."""

    def __init__(self, described: ForeignText, state: State, projection: nn.Sequential) -> None:
        """Build BERT from its weights' shapes and fill it. Raises CheckpointError when weights are missing."""
        super().__init__()
        self._pooling, self._positions = described.pooling, described.positions
        self.bert = _filled_bert(described, state)
        self.projection = projection

    def forward(self, tokens: Tokens) -> Tensor:
        """See `TextTower`."""
        places = None if self._positions else torch.zeros_like(tokens.input_ids)
        hidden = self.bert(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, position_ids=places
        ).last_hidden_state
        features: Tensor = self.projection(self._pooled(hidden, tokens.attention_mask))
        return features

    def _pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self._pooling == "mean":
            return mean_over_tokens(hidden, mask)
        last = mask.sum(dim=1) - 1 if self._pooling == "last" else torch.zeros_like(mask[:, 0])
        return hidden[torch.arange(len(hidden), device=hidden.device), last]


class ClipTower(nn.Module):
    """CLIP's text transformer and projection."""

    def __init__(self, network: CLIPTextModelWithProjection) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, tokens: Tokens) -> Tensor:
        """See `TextTower`."""
        features: Tensor = self.network(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).text_embeds
        return features


def _filled_bert(described: ForeignText, state: State) -> BertModel:
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in state.items()
        if name.startswith(("embeddings.", "encoder.")) and "crossattention" not in name and not name.endswith("_ids")
    }
    words, hidden = "embeddings.word_embeddings.weight", "encoder.layer.0.intermediate.dense.weight"
    _require(state, (words, hidden, "embeddings.position_embeddings.weight"), described)
    types = "embeddings.token_type_embeddings.weight"
    state.setdefault(types, torch.zeros(2, state[words].shape[1]))  # a BERT without segments has none
    width = state[words].shape[1]
    if width % described.heads:
        raise ConfigError(f"text.heads: {width} channels are no multiple of {described.heads}")
    config = BertConfig(
        vocab_size=state[words].shape[0], hidden_size=width, intermediate_size=state[hidden].shape[0],
        num_hidden_layers=1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer.")),
        num_attention_heads=described.heads, max_position_embeddings=state["embeddings.position_embeddings.weight"].shape[0],
        type_vocab_size=state[types].shape[0], layer_norm_eps=LAYER_NORM_EPS,
    )  # fmt: skip
    network = BertModel(config, add_pooling_layer=False)
    expected = network.state_dict()
    _require(state, tuple(expected), described)
    refuse_strange(set(state) - set(expected), "")
    network.load_state_dict({name: state[name] for name in expected})
    return network


def _require(state: State, names: Sequence[str], described: ForeignText) -> None:
    missing = [name for name in names if name not in state]
    if missing:
        raise CheckpointError(
            f"the text tower lacks {len(missing)} weights of a BERT, the first is {missing[0]}: is text.prefix '{described.prefix}' right?"
        )


def build_projection(names: Sequence[str], state: State, key: str) -> nn.Sequential:
    """Build layers from a file's weights by their shapes: linear, batch norm (it has running statistics) or layer norm.

    Args:
        names: Layers in order, by name in the file, `relu` and `gelu`.
        state: The whole file's weights.
        key: Configuration key, for messages.

    Raises:
        CheckpointError: A layer is not in the file.
    """
    return nn.Sequential(*(ACTIVATIONS[name]() if name in ACTIVATIONS else _layer(name, state, key) for name in names))


def _layer(name: str, state: State, key: str) -> nn.Module:
    parts = {part: state[f"{name}.{part}"].float() for part in ("weight", "bias", "running_mean", "running_var") if f"{name}.{part}" in state}  # fmt: skip
    layer: Any
    if "running_mean" in parts:
        layer = nn.BatchNorm1d(len(parts["running_mean"]), affine="weight" in parts, track_running_stats=True)
        parts["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    elif "weight" not in parts:
        raise CheckpointError(
            f"{key}: the file has no layer {name}: write its name with everything that stands before it"
        )
    elif parts["weight"].ndim == 1:
        layer = nn.LayerNorm(len(parts["weight"]), eps=LAYER_NORM_EPS)
    else:
        parts["weight"] = parts["weight"].flatten(1)  # convolutions of one pixel are linear layers of patches
        layer = nn.Linear(parts["weight"].shape[1], parts["weight"].shape[0], bias="bias" in parts)
    layer.load_state_dict(parts)
    return layer


def check_width(projection: nn.Sequential, width: int, key: str) -> None:
    """Raise CheckpointError when the first layer of a projection does not take `width` channels."""
    first = next((layer for layer in projection if isinstance(layer, nn.Linear)), None)
    if first is not None and first.in_features != width:
        raise CheckpointError(f"{key}: its first layer takes {first.in_features} channels, the encoder gives {width}")


def out_width(projection: nn.Sequential, width: int) -> int:
    """Return the channels that a projection of `width` channels ends at."""
    linear = [layer for layer in projection if isinstance(layer, nn.Linear)]
    return linear[-1].out_features if linear else width


class Projections(nn.Module):
    """From an image encoder's features and patches to the shared space."""

    def __init__(self, described: ForeignText, state: State, width: int) -> None:
        """Build both from the file.

        Raises:
            ConfigError: Patches are asked for without their projection.
            CheckpointError: A layer is missing or takes another width.
        """
        super().__init__()
        self.image = build_projection(described.image_projection, state, "text.image_projection")
        self.patch = build_projection(described.patch_projection, state, "text.patch_projection")
        self.has_patches = bool(described.patch_projection)
        self.from_patches = described.image_from == "patches"
        check_width(self.image, width, "text.image_projection")
        check_width(self.patch, width, "text.patch_projection")
        if self.from_patches and not self.has_patches:
            raise ConfigError("text.image_from: patches needs text.patch_projection")
        self.width = out_width(self.patch if self.from_patches else self.image, width)

    @classmethod
    def of_image(cls, layer: nn.Linear) -> Projections:
        """Return a projection of the image's features by one layer; patches have none."""
        found = cls(ForeignText(tokenizer=""), {}, layer.in_features)
        found.image, found.width = nn.Sequential(layer), layer.out_features
        return found

    def forward(self, features: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, F] and [B, N, F] to [B, C] and [B, N, C]; patches stay as they are without a projection."""
        flat = rearrange(patches, "b n f -> (b n) f")
        projected = rearrange(self.patch(flat), "(b n) c -> b n c", b=len(patches)) if self.has_patches else patches
        image = projected.mean(dim=1) if self.from_patches else self.image(features)
        return image, projected

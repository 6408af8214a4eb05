"""Other people's parameter names to transformers' (5.x): plain functions on state dicts, nothing is loaded here.

Rules read out of the published repositories' own module definitions; each is tested against a model of that naming.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from msvl.config.errors import CheckpointError

State = dict[str, Tensor]

CONTAINERS = ("state_dict", "model", "model_state_dict")
"""Where files keep their weights, in the order in which they are looked for."""


def unpack(content: object, prefix: str) -> State:
    """Return the tensors below `prefix` of whatever a file held, the prefix and DistributedDataParallel's taken off.

    Raises CheckpointError when there are none.
    """
    while isinstance(content, Mapping) and (inner := next((name for name in CONTAINERS if name in content), None)):
        content = content[inner]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"the file holds a {type(content).__name__} and no state dict")
    state = {str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}
    found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not found:
        heads = sorted({name.split(".")[0] + "." for name in state})[:8]
        raise CheckpointError(
            f"no weight begins with prefix '{prefix}'; the file has {', '.join(heads) or 'no tensors'}"
        )
    return found


def refuse_strange(left: Iterable[str], pattern: str) -> None:
    """Raise CheckpointError when a weight without a new name belongs to the encoder, which then computes something else.

    Args:
        left: Names that a map had no rule for; heads, decoders and other towers may be among them.
        pattern: What names of the encoder begin with.
    """
    strange = sorted(name for name in left if re.match(pattern, name))
    if strange:
        raise CheckpointError(
            f"{len(strange)} weights of the encoder have no place in the network of this format, the first is "
            f"{strange[0]}: without them it would compute something else, so it cannot be judged"
        )


def timm_vit(state: State) -> State:
    """Map timm's and MAE's ViT (A.2): fused query, key and value are split in that order; heads are dropped.

    Raises CheckpointError for blocks of another kind, further prefix tokens, or two last norms.
    """
    if {"norm.weight", "fc_norm.weight"} <= set(state):
        raise CheckpointError("the file has norm and fc_norm: take the one out that its network does not use")
    found: State = {}
    left = []
    for name, value in state.items():
        if name.startswith("blocks.") and ".attn.qkv." in name:
            block, kind = name.split(".")[1], name.rpartition(".")[2]
            for part, piece in zip("qkv", value.chunk(3, dim=0), strict=True):
                found[f"layers.{block}.attention.{part}_proj.{kind}"] = piece
        elif new := _renamed(name, TIMM):
            found[new] = value
        else:
            left.append(name)
    refuse_strange(left, r"(blocks|patch_embed|norm_pre)\.|dist_token|reg_token")
    return found


TIMM = (
    (r"cls_token", "embeddings.cls_token"),
    (r"pos_embed", "embeddings.position_embeddings"),
    (r"patch_embed\.proj\.(\w+)", r"embeddings.patch_embeddings.projection.\1"),
    (r"blocks\.(\d+)\.norm1\.(\w+)", r"layers.\1.layernorm_before.\2"),
    (r"blocks\.(\d+)\.norm2\.(\w+)", r"layers.\1.layernorm_after.\2"),
    (r"blocks\.(\d+)\.attn\.proj\.(\w+)", r"layers.\1.attention.o_proj.\2"),
    (r"blocks\.(\d+)\.mlp\.(fc[12])\.(\w+)", r"layers.\1.mlp.\2.\3"),
    (r"norm\.(\w+)", r"layernorm.\1"),
    (r"fc_norm\.(\w+)", r"pooled_norm.\1"),
)
POOLED_NORM = "pooled_norm.weight"
"""There where the last norm stands behind pooling."""


def jeonsworld_vit(state: State) -> State:
    """Map the ViT of jeonsworld, which REFERS uses (A.2b). Raises CheckpointError for its hybrid with a ResNet."""
    names = {name: _renamed(name, JEONSWORLD) for name in state}
    refuse_strange((name for name, new in names.items() if new is None), r"transformer\.")
    return {new: state[name] for name, new in names.items() if new is not None}


JEONSWORLD = (
    (r"transformer\.embeddings\.cls_token", "embeddings.cls_token"),
    (r"transformer\.embeddings\.position_embeddings", "embeddings.position_embeddings"),
    (r"transformer\.embeddings\.patch_embeddings\.(\w+)", r"embeddings.patch_embeddings.projection.\1"),
    (r"transformer\.encoder\.layer\.(\d+)\.attention_norm\.(\w+)", r"layers.\1.layernorm_before.\2"),
    (r"transformer\.encoder\.layer\.(\d+)\.ffn_norm\.(\w+)", r"layers.\1.layernorm_after.\2"),
    (r"transformer\.encoder\.layer\.(\d+)\.attn\.query\.(\w+)", r"layers.\1.attention.q_proj.\2"),
    (r"transformer\.encoder\.layer\.(\d+)\.attn\.key\.(\w+)", r"layers.\1.attention.k_proj.\2"),
    (r"transformer\.encoder\.layer\.(\d+)\.attn\.value\.(\w+)", r"layers.\1.attention.v_proj.\2"),
    (r"transformer\.encoder\.layer\.(\d+)\.attn\.out\.(\w+)", r"layers.\1.attention.o_proj.\2"),
    (r"transformer\.encoder\.layer\.(\d+)\.ffn\.(fc[12])\.(\w+)", r"layers.\1.mlp.\2.\3"),
    (r"transformer\.encoder\.encoder_norm\.(\w+)", r"layernorm.\1"),
)


def torchvision_resnet(state: State) -> State:
    """Map torchvision's ResNet (A.1); the classifier is dropped. Raises CheckpointError for layers of another kind."""
    found: State = {}
    left = []
    for name, value in state.items():
        block = re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)", name)
        short = re.fullmatch(r"layer(\d)\.(\d+)\.downsample\.([01])\.(\w+)", name)
        if block:
            stage, layer, kind, number, leaf = block.groups()
            part = "convolution" if kind == "conv" else "normalization"
            found[f"encoder.stages.{int(stage) - 1}.layers.{layer}.layer.{int(number) - 1}.{part}.{leaf}"] = value
        elif short:
            stage, layer, number, leaf = short.groups()
            part = ("convolution", "normalization")[int(number)]
            found[f"encoder.stages.{int(stage) - 1}.layers.{layer}.shortcut.{part}.{leaf}"] = value
        elif new := _renamed(name, RESNET_STEM):
            found[new] = value
        else:
            left.append(name)
    refuse_strange(left, r"(layer\d|conv1|bn1)\.")
    return found


RESNET_STEM = (
    (r"conv1\.(\w+)", r"embedder.embedder.convolution.\1"),
    (r"bn1\.(\w+)", r"embedder.embedder.normalization.\1"),
)
SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def sequential_resnet(state: State) -> State:
    """Map a ResNet kept as `nn.Sequential(*children)` (A.1b; MedKLIP, a ConVIRT)."""
    named = {}
    for name, value in state.items():
        number, _, rest = name.partition(".")
        if number in SEQUENTIAL:
            named[f"{SEQUENTIAL[number]}.{rest}"] = value
    return torchvision_resnet(named)


def openai_clip(state: State) -> State:
    """Map OpenAI's CLIP (A.4; CheXzero) to transformers' CLIPModel: fused projections are split, matrices of features turned.

    Raises CheckpointError where an image tower is no transformer.
    """
    found: State = {}
    left = []
    for name, value in state.items():
        side, own = (
            ("vision_model", name.removeprefix("visual.")) if name.startswith("visual.") else ("text_model", name)
        )
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", own)
        if block and block[2].startswith("attn.in_proj_"):
            kind = block[2].removeprefix("attn.in_proj_")
            for part, piece in zip("qkv", value.chunk(3, dim=0), strict=True):
                found[f"{side}.encoder.layers.{block[1]}.self_attn.{part}_proj.{kind}"] = piece
        elif block and (new := _renamed(block[2], CLIP_BLOCK)):
            found[f"{side}.encoder.layers.{block[1]}.{new}"] = value
        elif name in CLIP_PROJECTIONS:
            found[CLIP_PROJECTIONS[name]] = value.T
        elif new := _renamed(own, CLIP_VISION if side == "vision_model" else CLIP_TEXT):
            found[f"{side}.{new}"] = value
        else:
            left.append(name)
    refuse_strange(left, r"(visual|transformer)\.")
    return found


CLIP_PROJECTIONS = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
CLIP_BLOCK = (
    (r"attn\.out_proj\.(\w+)", r"self_attn.out_proj.\1"),
    (r"ln_([12])\.(\w+)", r"layer_norm\1.\2"),
    (r"mlp\.c_fc\.(\w+)", r"mlp.fc1.\1"),
    (r"mlp\.c_proj\.(\w+)", r"mlp.fc2.\1"),
)
CLIP_VISION = (
    (r"conv1\.weight", "embeddings.patch_embedding.weight"),
    (r"class_embedding", "embeddings.class_embedding"),
    (r"positional_embedding", "embeddings.position_embedding.weight"),
    (r"ln_pre\.(\w+)", r"pre_layrnorm.\1"),  # transformers' spelling
    (r"ln_post\.(\w+)", r"post_layernorm.\1"),
)
CLIP_TEXT = (
    (r"token_embedding\.weight", "embeddings.token_embedding.weight"),
    (r"positional_embedding", "embeddings.position_embedding.weight"),
    (r"ln_final\.(\w+)", r"final_layer_norm.\1"),
)


MAPS: dict[str, Callable[[State], State]] = {
    "timm_vit": timm_vit,
    "jeonsworld_vit": jeonsworld_vit,
    "torchvision_resnet": torchvision_resnet,
    "sequential_resnet": sequential_resnet,
    "openai_clip": openai_clip,
}
"""Format -> its rule."""


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, new in rules:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, new, name)
    return None

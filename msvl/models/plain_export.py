"""Encoders as folders that plain transformers loads without msvl: `image/` (ViTModel), `text/` (BertModel), projections."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from msvl.config.errors import CheckpointError
from msvl.models.exported import TOKENIZER
from msvl.models.families.bert import BertTextEncoder
from msvl.models.families.published import whole_parameters
from msvl.models.families.vit import ViTImageEncoder
from msvl.models.msvl_model import MSVLModel

TOLERANCE = 1e-4
"""Largest difference of any value between the original's and the reloaded folder's output."""
PARTS = ("image", "text")
PROJECTIONS = {
    "image_projection": "image",
    "patch_projection": "image",
    "text_projection": "text",
    "sentence_projection": "text",
}
"""Layer -> part that it belongs to."""


def export_plain(model: MSVLModel, source: Path, folder: Path, parts: Sequence[str] = PARTS) -> dict[str, float]:
    """Write the encoders, load them again by transformers and compare.

    Args:
        model: In evaluation mode, on the CPU.
        source: Its exported folder, for the tokenizer.
        folder: Must not exist yet.
        parts: 'image', 'text' or both.

    Returns:
        Part -> largest difference found.

    Raises:
        CheckpointError: The folder exists or cannot be written, the image encoder is no plain ViT, or a difference is
            above TOLERANCE.
    """
    if folder.exists():
        raise CheckpointError(f"{folder} exists: name a new folder")
    if "image" in parts:
        _check_plain(model)
    try:
        folder.mkdir(parents=True)
        found = {}
        if "image" in parts:
            found["image"] = _export_image(model, folder / "image")
        if "text" in parts:
            found["text"] = _export_text(model, source, folder / "text")
        names = [name for name in PROJECTIONS if PROJECTIONS[name] in parts]
        state = {key: value.contiguous() for key, value in model.state_dict().items() if key.split(".")[0] in names}
        save_file(state, folder / "projections.safetensors", metadata={"format": "pt"})
        (folder / "README.md").write_text(_readme(model, parts, found), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} could not be written ({error}): free space or name another place") from error
    wrong = {part: value for part, value in found.items() if not value <= TOLERANCE}
    if wrong:
        shutil.rmtree(folder)
        raise CheckpointError(
            f"the reloaded encoders differ from the original by {wrong}, more than {TOLERANCE:g}: nothing was kept"
        )
    return found


def _check_plain(model: MSVLModel) -> None:
    encoder = model.image_encoder
    if not isinstance(encoder, ViTImageEncoder) or model.config.image_section.stem != "patch":
        raise CheckpointError(
            f"the image encoder has the stem '{model.config.image_section.stem}', which no plain ViTModel has: export the "
            "text encoder with --only text, or train with model.image.stem=patch"
        )


def _export_image(model: MSVLModel, folder: Path) -> float:
    encoder = model.image_encoder
    assert isinstance(encoder, ViTImageEncoder), type(encoder)
    with whole_parameters():
        plain = ViTModel(ViTConfig(**dict(model.config.image_network or {})), add_pooling_layer=False)
    plain.load_state_dict(encoder.state_dict())
    plain.save_pretrained(folder)
    size, channels = model.config.image_size, encoder.config.num_channels
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": size, "width": size},
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [model.config.pixel_mean] * channels, "image_std": [model.config.pixel_std] * channels,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
    grey = torch.randint(0, 256, (2, 1, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels = model.standardise(grey)
    with torch.no_grad():
        ours = encoder(pixels)
        with whole_parameters():
            theirs = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
        states = theirs(pixels.expand(-1, channels, -1, -1)).last_hidden_state
    return _furthest(states, torch.cat([ours.cls[:, None], ours.patches], dim=1))


def _export_text(model: MSVLModel, source: Path, folder: Path) -> float:
    encoder = model.text_encoder
    assert isinstance(encoder, BertTextEncoder), type(encoder)
    with whole_parameters():
        plain = BertModel(BertConfig(**dict(model.config.text_network or {})), add_pooling_layer=False)
    plain.load_state_dict(encoder.state_dict())
    plain.save_pretrained(folder)
    for file in sorted((source / TOKENIZER).glob("*")):
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    length = min(24, encoder.max_tokens)
    ids = torch.randint(5, model.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    with torch.no_grad():
        ours = encoder(ids, mask)
        with whole_parameters():
            theirs = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
        states = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    return _furthest(states[mask.bool()], ours[mask.bool()])


def _furthest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _readme(model: MSVLModel, parts: Sequence[str], found: dict[str, float]) -> str:
    image_pool = "states[:, 0]" if model.image_pooling == "cls" else "states[:, 1:].mean(dim=1)"
    mask = "tokens.attention_mask[..., None]"
    text_pool = "states[:, 0]" if model.text_pooling == "cls" else f"(states * {mask}).sum(dim=1) / {mask}.sum(dim=1)"
    differences = ", ".join(f"{part} {value:.1e}" for part, value in found.items())
    image = f"""image = ViTModel.from_pretrained("FOLDER/image", add_pooling_layer=False).eval()
grey = torch.rand(1, 1, {model.config.image_size}, {model.config.image_size})  # a radiograph's grey values in [0, 1]
pixels = ((grey - {model.config.pixel_mean!r}) / {model.config.pixel_std!r}).expand(-1, image.config.num_channels, -1, -1)
with torch.no_grad():
    states = image(pixels).last_hidden_state
    image_embedding = project("image_projection", {image_pool})
""" if "image" in parts else ""  # fmt: skip
    text = f"""text = BertModel.from_pretrained("FOLDER/text", add_pooling_layer=False).eval()
tokens = PreTrainedTokenizerFast.from_pretrained("FOLDER/text")(["there is an effusion."], return_tensors="pt")
with torch.no_grad():
    states = text(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    text_embedding = project("text_projection", {text_pool})
""" if "text" in parts else ""  # fmt: skip
    return f"""# Encoders exported by msvl

Research use, not a medical device. Loaded by transformers alone; largest difference from the original: {differences}.

```python
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import BertModel, PreTrainedTokenizerFast, ViTModel

weights = load_file("FOLDER/projections.safetensors")


def project(name, features):
    return functional.normalize(functional.linear(features, weights[f"{{name}}.weight"], weights[f"{{name}}.bias"]), dim=-1)


{image}{text}```

Text is lower case. Each sentence of a report was tokenised on its own and joined, [CLS] first and [SEP] last.
"""

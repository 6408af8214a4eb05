"""The README.md of an exported model: what it is, what it was trained on, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msvl.data.config import ReportConfig
from msvl.models.msvl_config import MSVLConfig

CARD = "README.md"
NOTICE = "For research use. Not a medical device: not for diagnosis or any decision about a patient."


def model_card(
    config: MSVLConfig,
    *,
    num_parameters: int,
    report: ReportConfig | None = None,
    sources: Sequence[Mapping[str, str]] = (),
) -> str:
    """Return the card as Markdown with the YAML head that the hub reads.

    Args:
        config: The model's record of itself.
        num_parameters: Of the whole model.
        report: How reports were prepared; None where the folder has neither that nor a tokenizer.
        sources: Data sets with "name" and "licence"; none where they are not known.
    """
    image, network, text = config.image_section, config.image_network or {}, config.text_network or {}
    needs_msvl = (
        "The image encoder has a convolutional stem, so it needs msvl to load."
        if image.stem == "conv"
        else "The image encoder's parameter names are those of transformers' ViTModel (5.x), without the prefix "
        "`image_encoder.`; the text encoder's are BertModel's, without `text_encoder.`."
    )
    trained_on = "\n".join(f"- {source['name']} (licence: {source['licence']})" for source in sources)
    reports = (
        f"""Reports: sections {", ".join(report.sections)}, lower case,
at most {report.max_tokens} tokens and {report.max_sentences} sentences;
the tokenizer is in `tokenizer/`."""
        if report
        else "The tokenizer and the preparation of reports are not in this folder: `msvl export` writes them, too."
    )
    return f"""---
library_name: msvl
tags: [chest-radiograph, vision-language, research-only]
---
# Medical semantic vision-language model

{NOTICE}

Radiograph-report foundation model after Huang et al., arXiv 2401.01583: {num_parameters:,} parameters.

- image encoder: {image.family}, {network.get("hidden_size")} channels, {network.get("num_hidden_layers")} layers,
  patches of {network.get("patch_size")} px, images of {config.image_size} px
- text encoder: {config.text_section.family}, {text.get("hidden_size")} channels,
  {text.get("num_hidden_layers")} layers, {text.get("vocab_size")} tokens
- shared space: {config.channels} channels

{needs_msvl}

## Trained on

{trained_on or "Not recorded in this folder."}

The licences of these data sets may limit what may be done with the weights.

## Inputs

Grey images, short side resized to {config.image_size} px and centre-cropped, grey values in [0, 1] standardised
with mean {config.pixel_mean:.4f} and standard deviation {config.pixel_std:.4f}.

{reports}

## Use

```python
from msvl.models.exported import load_exported

model = load_exported("FOLDER")
image = model.encode_image(pixels)  # uint8 [B, 1, {config.image_size}, {config.image_size}]
report = model.encode_text(tokens)
```

or `msvl evaluate FOLDER --data PACKED_SET`.
"""

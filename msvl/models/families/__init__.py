"""One adapter per encoder family: where its CLS and patch tokens lie, how tokens are dropped, positions resized."""

from __future__ import annotations

from msvl.models.families.bert import BertTextEncoder
from msvl.models.families.vit import ViTImageEncoder

IMAGE_FAMILIES: dict[str, type[ViTImageEncoder]] = {"vit": ViTImageEncoder}
TEXT_FAMILIES: dict[str, type[BertTextEncoder]] = {"bert": BertTextEncoder}

"""An exported model: a folder that judgement and other people load without executing code.

config.json and model.safetensors (transformers' layout), msvl.json (how images and reports were prepared), tokenizer/,
README.md (model card).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import msvl
from msvl.config.errors import CheckpointError
from msvl.data.config import DataConfig, ReportConfig
from msvl.models.families.published import whole_parameters
from msvl.models.model_card import CARD, model_card
from msvl.models.msvl_config import MSVLConfig
from msvl.models.msvl_model import MSVLModel

WEIGHTS, SETTINGS, CONFIG, TOKENIZER = "model.safetensors", "msvl.json", "config.json", "tokenizer"


class SavesItself(Protocol):
    """The part of ReportTokeniser that an export needs."""

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files to a new folder."""


@dataclass(frozen=True)
class ExportSettings:
    """How the inputs of an exported model are prepared."""

    image_size: int
    report: ReportConfig
    tokenizer: Path
    sources: tuple[Mapping[str, str], ...]


def save_exported(
    folder: str | os.PathLike[str],
    *,
    config: MSVLConfig,
    state_dict: Mapping[str, torch.Tensor],
    tokeniser: SavesItself,
    data: DataConfig,
    sources: Sequence[Mapping[str, str]],
) -> None:
    """Write an exported model.

    Args:
        folder: Created when absent.
        config: The model's record of itself.
        state_dict: Whole tensors under MSVLModel's names.
        tokeniser: Copied into `tokenizer/`.
        data: The run's section `data`.
        sources: Data sets with "name" and "licence", for the card.

    Raises:
        OSError: The disk is full or the folder cannot be written; safetensors raises SafetensorError for it.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().to("cpu").contiguous() for name, value in state_dict.items()}
    save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
    record = config.to_dict() | {"architectures": [MSVLModel.__name__]}
    _write(target / CONFIG, _json(record))
    settings = {
        "msvl_version": msvl.__version__,
        "image_size": data.image_size,
        "report": data.report.model_dump(mode="json"),
        "sources": [dict(source) for source in sources],
    }
    _write(target / SETTINGS, _json(settings))
    tokeniser.save(target / TOKENIZER)
    num_parameters = sum(value.numel() for value in weights.values())
    card = model_card(config, num_parameters=num_parameters, report=data.report, sources=sources)
    _write(target / CARD, card)


def load_exported(folder: str | os.PathLike[str]) -> MSVLModel:
    """Load an exported model in float32, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: A file is missing, cut or does not fit; the message names it.
    """
    source = Path(folder)
    _require(source, CONFIG, WEIGHTS)
    record = _read_json(source / CONFIG)
    if record.get("model_type") != MSVLConfig.model_type:
        raise CheckpointError(
            f"{source / CONFIG}: this is a model of type '{record.get('model_type')}', not one exported by msvl"
        )
    try:
        weights = load_file(source / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{source / WEIGHTS}: cannot be read ({error}): copy it again") from error
    try:
        with whole_parameters():
            model = MSVLModel(MSVLConfig.from_dict(record))
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{source / CONFIG}: does not fit this version of msvl: {detail}") from error
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys()) or sorted(
        name for name, value in weights.items() if value.shape != expected[name].shape
    )
    if wrong:
        raise CheckpointError(f"{source / WEIGHTS}: {len(wrong)} tensors do not fit {CONFIG}, the first is {wrong[0]}")
    model.load_state_dict(weights)
    model.eval()
    return model


def export_settings(folder: str | os.PathLike[str]) -> ExportSettings:
    """Return how inputs are prepared. Raises CheckpointError when msvl.json or tokenizer/ is missing or broken."""
    source = Path(folder)
    _require(source, SETTINGS, TOKENIZER)
    settings = _read_json(source / SETTINGS)
    try:
        return ExportSettings(
            image_size=int(settings["image_size"]),
            report=ReportConfig.model_validate(settings["report"]),
            tokenizer=source / TOKENIZER,
            sources=tuple(settings["sources"]),
        )
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{source / SETTINGS}: does not fit this version of msvl: {detail}") from error


def _require(folder: Path, *names: str) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder with an exported model")
    for name in names:
        if not (folder / name).exists():
            raise CheckpointError(f"{folder}: {name} is missing, so this is no whole exported model: copy it again")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error}): copy it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())

"""A model to judge by a protocol: ours, or an image encoder of other people."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from msvl.config.load import load_config
from msvl.data.config import ReportConfig
from msvl.data.tokenise import ReportTokeniser
from msvl.evaluation.encoders import Tokenises
from msvl.evaluation.locate import WEIGHTS, ModelPlace, locate_model
from msvl.models.exported import export_settings, load_exported
from msvl.models.foreign import foreign_tokeniser, load_foreign
from msvl.models.foreign_files import ForeignCheckpoint
from msvl.models.msvl_model import MSVLModel

FOREIGN = (".yaml", ".yml")
"""A file of this kind describes a foreign checkpoint."""


@dataclass(frozen=True)
class JudgedModel:
    """A loaded model and how its inputs are prepared."""

    model: MSVLModel
    """Or a `ForeignModel`, which offers what judgement asks of it."""
    tokeniser: Tokenises | None
    """None where there is no text encoder."""
    report: ReportConfig
    digest: str
    """SHA-256 of the weights."""


def locate_judged(path: Path) -> ModelPlace:
    """Return the place of a run, a checkpoint, an exported model, or of the YAML file of a foreign checkpoint."""
    if path.suffix in FOREIGN and path.is_file():
        return ModelPlace(model=path, run=None, step=None)
    return locate_model(path)


def open_judged(place: ModelPlace) -> JudgedModel:
    """Load a model. Raises CheckpointError, and ConfigError for a wrong YAML file."""
    if place.model.suffix in FOREIGN:
        described = load_config(place.model, [], ForeignCheckpoint)
        model = cast(MSVLModel, load_foreign(place.model))
        text = [] if described.text is None else [described.text.path or described.path, described.text.tokenizer]
        files = [place.model, *map(Path, dict.fromkeys(text)), Path(described.path)]
        return JudgedModel(model, foreign_tokeniser(place.model), ReportConfig(), _digest(*files))
    settings = export_settings(place.model)
    tokeniser = ReportTokeniser(str(settings.tokenizer), settings.report)
    return JudgedModel(load_exported(place.model), tokeniser, settings.report, _digest(place.model / WEIGHTS))


def _digest(path: Path, *more: Path) -> str:
    """Return the SHA-256 of a file; of several files, and of folders, that of the files' own."""
    if path.is_file() and not more:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for place in (path, *more):
        for file in [place] if place.is_file() else sorted(item for item in place.rglob("*") if item.is_file()):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()

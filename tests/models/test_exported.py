"""Exported folders: whole, bit-equal, safe to load, and clear about what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from msvl.config.errors import CheckpointError
from msvl.data.config import DataConfig, ReportConfig
from msvl.models.exported import export_settings, load_exported, save_exported
from msvl.models.msvl_model import MSVLModel
from tests.models.tiny import SIDE, TinyTokeniser, tiny_batch, tiny_config, tiny_model

REPORT = ReportConfig(sections=("impression",), max_tokens=40, max_sentences=4)


def export(folder: Path, *, stem: str = "conv") -> MSVLModel:
    """Export the tiny model and return it."""
    model = tiny_model(tiny_config(image={"stem": stem})).eval()
    save_exported(
        folder,
        config=model.config,
        state_dict=model.state_dict(),
        tokeniser=TinyTokeniser(),
        data=DataConfig(path="shards/x", image_size=SIDE, report=REPORT),
        sources=[{"name": "phantom", "licence": "Apache-2.0"}],
    )
    return model


@pytest.mark.parametrize("stem", ["conv", "patch"])
def test_a_round_trip_is_equal_to_the_bit(tmp_path: Path, stem: str) -> None:
    model = export(tmp_path, stem=stem)
    loaded = load_exported(tmp_path)
    assert not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    batch = tiny_batch()
    assert torch.equal(loaded.encode_image(batch.images).image, model.encode_image(batch.images).image)
    assert torch.equal(loaded.encode_text(batch.tokens).sentences, model.encode_text(batch.tokens).sentences)


def test_transformers_loads_the_same_folder(tmp_path: Path) -> None:
    model, batch = export(tmp_path), tiny_batch()
    loaded = MSVLModel.from_pretrained(tmp_path).eval()
    expected, found = (each(batch, seed=0, reconstruct=True) for each in (model, loaded))
    assert torch.equal(found.sentences, expected.sentences)
    assert torch.equal(found.reconstruction.patch_prediction, expected.reconstruction.patch_prediction)


def test_what_transformers_saves_is_an_exported_model(tmp_path: Path) -> None:
    model = tiny_model().eval()
    model.save_pretrained(tmp_path)
    loaded = load_exported(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_what_transformers_saves_has_a_card_and_comes_back(tmp_path: Path) -> None:
    model, batch = tiny_model().eval(), tiny_batch()
    model.save_pretrained(tmp_path / "plain")
    model.save_pretrained(tmp_path / "told", sources=[{"name": "phantom", "licence": "Apache-2.0"}])
    plain, told = ((tmp_path / name / "README.md").read_text(encoding="utf-8") for name in ("plain", "told"))
    assert "research use. Not a medical device" in plain
    assert f"{sum(value.numel() for value in model.parameters()):,} parameters" in plain
    assert "Not recorded in this folder." in plain
    assert "- phantom (licence: Apache-2.0)" in told
    assert "`tokenizer/`" not in told
    loaded = MSVLModel.from_pretrained(tmp_path / "told").eval()
    assert torch.equal(loaded(batch).image, model(batch).image)


def test_bfloat16_weights_are_loaded_in_float32(tmp_path: Path) -> None:
    model = export(tmp_path)
    state = {name: value.bfloat16() for name, value in model.state_dict().items()}
    save_exported(
        tmp_path / "rough",
        config=model.config,
        state_dict=state,
        tokeniser=TinyTokeniser(),
        data=DataConfig(path="shards/x", image_size=SIDE),
        sources=[],
    )
    assert {value.dtype for value in load_exported(tmp_path / "rough").parameters()} == {torch.float32}


def test_settings_of_images_and_reports_come_back(tmp_path: Path) -> None:
    export(tmp_path)
    settings = export_settings(tmp_path)
    assert settings.image_size == SIDE
    assert settings.report == REPORT
    assert settings.tokenizer == tmp_path / "tokenizer"
    assert (settings.tokenizer / "tokenizer.json").is_file()


@pytest.mark.evidence("Exported models carry a card with data sources, licences and limits", how="cpu")
def test_the_card_names_sources_licences_and_limits(tmp_path: Path) -> None:
    export(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "- phantom (licence: Apache-2.0)" in card
    assert "research use. Not a medical device" in card
    assert "convolutional stem, so it needs msvl" in card


def test_the_record_does_not_name_the_folder_of_the_initial_weights(tmp_path: Path) -> None:
    export(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert record["image"]["weights"] is None
    assert record["text"]["weights"] is None


def cut_weights(folder: Path) -> None:
    """Leave the first half of the weights."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def other_width(folder: Path) -> None:
    """Claim more shared channels than there are."""
    _edit(folder / "config.json", channels=21)


def unknown_key(folder: Path) -> None:
    """Claim a setting that this version does not know."""
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _edit(folder / "config.json", image=record["image"] | {"rotary": True})


def other_model(folder: Path) -> None:
    """Claim to be another model."""
    _edit(folder / "config.json", model_type="clip")


def broken_json(folder: Path) -> None:
    """Cut the record."""
    (folder / "config.json").write_text('{"a": ', encoding="utf-8")


def no_weights(folder: Path) -> None:
    """Remove the weights."""
    (folder / "model.safetensors").unlink()


def _edit(path: Path, **changes: object) -> None:
    record = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, r"model\.safetensors: cannot be read .*copy it again"),
        (other_width, r"model\.safetensors: \d+ tensors do not fit config\.json, the first is image_projection\.bias"),
        (unknown_key, r"config\.json: does not fit this version of msvl: .*rotary"),
        (other_model, r"config\.json: this is a model of type 'clip', not one exported by msvl"),
        (broken_json, r"config\.json: cannot be read as JSON"),
        (no_weights, r"model\.safetensors is missing, so this is no whole exported model"),
    ],
)
def test_a_damaged_export_is_named_in_one_sentence(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    export(tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_exported(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        load_exported(tmp_path / "nowhere")


def test_an_export_without_its_tokenizer_is_named(tmp_path: Path) -> None:
    export(tmp_path)
    (tmp_path / "tokenizer" / "tokenizer.json").unlink()
    (tmp_path / "tokenizer").rmdir()
    with pytest.raises(CheckpointError, match="tokenizer is missing"):
        export_settings(tmp_path)

"""Exported encoders: loaded by transformers alone, equal to the original."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertModel, ViTModel

from msvl.cli import main
from msvl.config.errors import CheckpointError
from msvl.data.config import DataConfig
from msvl.data.tokenise import train_tokenizer
from msvl.models.exported import save_exported
from msvl.models.msvl_model import MSVLModel
from msvl.models.plain_export import export_plain
from tests.models.tiny import SIDE, TinyTokeniser, tiny_batch, tiny_config, tiny_model


class Words(TinyTokeniser):
    """A tokenizer that transformers loads, of fewer tokens than the model has."""

    def save(self, folder: Path) -> None:
        train_tokenizer(["there is an effusion ."], 50, folder)


def exported(folder: Path, *, stem: str = "patch", pooling: str = "mean") -> MSVLModel:
    model = tiny_model(tiny_config(image={"stem": stem, "pooling": pooling}, text={"pooling": pooling})).eval()
    save_exported(
        folder, config=model.config, state_dict=model.state_dict(), tokeniser=Words(),
        data=DataConfig(path="shards/x", image_size=SIDE), sources=[],
    )  # fmt: skip
    return model


@pytest.mark.evidence(
    "`msvl export` writes encoders that plain transformers loads, equal to the original to 1e-4", how="cpu"
)
def test_transformers_loads_both_encoders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = exported(tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "plain")]) == 0
    assert "image: loaded again by transformers" in capsys.readouterr().out
    batch = tiny_batch()
    vit = ViTModel.from_pretrained(tmp_path / "plain" / "image", add_pooling_layer=False).eval()
    bert = BertModel.from_pretrained(tmp_path / "plain" / "text", add_pooling_layer=False).eval()
    with torch.no_grad():
        states = vit(model.standardise(batch.images).expand(-1, 3, -1, -1)).last_hidden_state
        assert torch.allclose(states[:, 1:], model.image_encoder(model.standardise(batch.images)).patches, atol=1e-4)
        tokens = batch.tokens
        theirs = bert(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        ours = model.text_encoder(tokens.input_ids, tokens.attention_mask)
    seen = tokens.attention_mask.bool()
    assert torch.allclose(theirs[seen], ours[seen], atol=1e-4)
    weights = load_file(tmp_path / "plain" / "projections.safetensors")
    assert torch.equal(weights["image_projection.weight"], model.image_projection.weight)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_readme_runs_without_msvl_and_gives_the_models_embeddings(tmp_path: Path, pooling: str) -> None:
    model = exported(tmp_path / "model", pooling=pooling)
    export_plain(model, tmp_path / "model", tmp_path / "plain")
    text = (tmp_path / "plain" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0].replace("FOLDER", str(tmp_path / "plain"))
    code = code.replace("torch.rand(1, 1, 32, 32)", "torch.arange(1024.0).reshape(1, 1, 32, 32).floor_divide(5) / 255")
    code += "\nimport sys\nassert not [name for name in sys.modules if name.startswith('msvl')]\n"
    code += f"torch.save([image_embedding, text_embedding, tokens.input_ids], {str(tmp_path / 'found.pt')!r})\n"
    (tmp_path / "snippet.py").write_text(code)
    done = subprocess.run([sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    image, text_embedding, ids = torch.load(tmp_path / "found.pt")
    grey = torch.arange(1024).reshape(1, 1, 32, 32).floor_divide(5).to(torch.uint8)
    with torch.no_grad():
        assert torch.allclose(image, model.encode_image(grey).image, atol=1e-4)
        states = model.text_encoder(ids, torch.ones_like(ids))
        pooled = states[:, 0] if pooling == "cls" else states.mean(dim=1)
        ours = torch.nn.functional.normalize(model.text_projection(pooled), dim=-1)
    assert torch.allclose(text_embedding, ours, atol=1e-4)
    assert Tokenizer.from_file(str(tmp_path / "plain" / "text" / "tokenizer.json")).get_vocab_size() <= 50


def test_a_convolutional_stem_is_refused_and_the_text_can_go_alone(tmp_path: Path) -> None:
    exported(tmp_path / "model", stem="conv")
    with pytest.raises(CheckpointError, match="stem 'conv', which no plain ViTModel has.*--only text"):
        main(["export", str(tmp_path / "model"), str(tmp_path / "plain"), "--debug"])
    assert not (tmp_path / "plain").exists()
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "plain"), "--only", "text"]) == 0
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        "README.md",
        "projections.safetensors",
        "text",
    ]
    assert set(load_file(tmp_path / "plain" / "projections.safetensors")) == {
        f"{name}_projection.{leaf}" for name in ("text", "sentence") for leaf in ("weight", "bias")
    }


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    model = exported(tmp_path / "model")
    with pytest.raises(CheckpointError, match="exists: name a new folder"):
        export_plain(model, tmp_path / "model", tmp_path)


def test_a_difference_is_found_and_nothing_is_kept(tmp_path: Path) -> None:
    model = exported(tmp_path / "model")
    with torch.no_grad():
        model.image_encoder.layernorm.register_forward_hook(lambda module, inputs, output: output + 0.01)
    with pytest.raises(CheckpointError, match="differ from the original by .*image.*nothing was kept"):
        export_plain(model, tmp_path / "model", tmp_path / "plain")
    assert not (tmp_path / "plain").exists()

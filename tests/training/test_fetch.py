"""`msvl fetch`: what a configuration names is brought into a cache with hashes, and jobs load it without network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from msvl.config.load import load_config
from msvl.training.config import PretrainConfig
from msvl.training.hub import cached_snapshot, hub_names, missing_names
from tests.helpers.hub_server import REVISION, HubServer
from tests.helpers.runs import ROOT

NAME = "team/tiny-bert"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    torch.manual_seed(0)
    config = BertConfig(vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "heart", "is"]) + "\n"
    )
    (folder / "pytorch_model.bin").write_bytes(b"not wanted where safetensors are")
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(
        "run: {name: a}\ndata: {path: shards/a}\ntrain: {steps: 1, global_batch: 2}\n"
        f"model: {{text: {{weights: {NAME}}}}}\n"
    )
    return path


def msvl(
    *words: str, cache: Path, url: str = "http://127.0.0.1:9", offline: bool = False
) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"HF_ENDPOINT": url, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": str(int(offline))}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.evidence(
    "`msvl fetch` brings named weights into a cache with hashes; they load without network", how="cpu"
)
def test_fetched_weights_load_offline(published: Path, config: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    settings = load_config(str(config), [], PretrainConfig)
    assert missing_names(settings, cache) == {NAME: "model.text.weights"}
    with HubServer({NAME: published}) as hub:
        done = msvl(
            "-m", "msvl.cli", "fetch", str(config), "--cache", str(cache), cache=tmp_path / "other", url=hub.url
        )
        assert done.returncode == 0, done.stderr
        assert f"{NAME} (model.text.weights): revision {REVISION}" in done.stdout
        assert f"{NAME}/model.safetensors" in hub.asked
        assert f"{NAME}/pytorch_model.bin" not in hub.asked
    assert missing_names(settings, cache) == {}
    code = f"from transformers import BertModel; m = BertModel.from_pretrained('{NAME}'); print(sum(p.sum().item() for p in m.parameters()))"
    loaded = msvl("-c", code, cache=cache, offline=True)
    assert loaded.returncode == 0, loaded.stderr
    expected = sum(p.sum().item() for p in BertModel.from_pretrained(published).parameters())
    assert float(loaded.stdout) == pytest.approx(expected)


def test_a_changed_file_is_found(published: Path, config: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with HubServer({NAME: published}) as hub:
        assert msvl("-m", "msvl.cli", "fetch", str(config), cache=cache, url=hub.url).returncode == 0
    check = ("-m", "msvl.cli", "fetch", str(config), "--check")
    assert msvl(*check, cache=cache).returncode == 0
    snapshot = cached_snapshot(cache, NAME)
    assert snapshot is not None
    with open(snapshot / "vocab.txt", "a") as stream:
        stream.write("changed\n")
    found = msvl(*check, cache=cache)
    assert found.returncode == 1
    assert f"{NAME}: differs from what was fetched: vocab.txt" in found.stdout
    assert "is not there" in msvl(*check, cache=tmp_path / "empty").stdout


def test_a_hub_that_cannot_be_reached_is_one_sentence(config: Path, tmp_path: Path) -> None:
    done = msvl("-m", "msvl.cli", "fetch", str(config), cache=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"msvl: model.text.weights '{NAME}' cannot be fetched")
    assert "on a machine with internet" in done.stderr
    with HubServer({}) as hub:
        unknown = msvl("-m", "msvl.cli", "fetch", str(config), cache=tmp_path, url=hub.url)
    assert unknown.returncode == 2
    assert f"'{NAME}' cannot be fetched" in unknown.stderr


def test_folders_of_this_machine_need_no_fetching(published: Path, config: Path) -> None:
    settings = load_config(str(config), [f"model.text.weights={published}"], PretrainConfig)
    assert hub_names(settings) == {}

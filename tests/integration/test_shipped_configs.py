"""Every configuration that ships starts and makes two steps, with small published weights in the place of large ones."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, ViTMAEConfig, ViTMAEForPreTraining

from msvl.data.packed import PackedSet
from msvl.monitoring.writers import read_metrics
from tests.helpers.runs import ROOT, execute

CONFIGS = sorted((ROOT / "configs" / "pretrain").glob("*.yaml"))
WORDS = "data.report.unit=word"
"""GLoRIA's text units in the place of sentences."""
CASES = [pytest.param(path, (), id=path.stem) for path in CONFIGS]
CASES += [pytest.param(path, (WORDS,), id=f"{path.stem}-words") for path in CONFIGS if path.stem == "quickstart"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, tiny_set: Path) -> dict[str, str]:
    """Encoders as their authors publish them: MAE's ViT with its decoder, BERT with its tokenizer."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    settings = ViTMAEConfig(
        image_size=64, patch_size=16, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=16, **SMALL,
    )  # fmt: skip
    ViTMAEForPreTraining(settings).save_pretrained(folder / "vit")
    BertModel(BertConfig(vocab_size=500, **SMALL)).save_pretrained(folder / "bert")
    tokenizer = PackedSet.open(tiny_set).tokenizer_path
    assert tokenizer is not None
    shutil.copytree(tokenizer, folder / "bert", dirs_exist_ok=True)
    return {"image": str(folder / "vit"), "text": str(folder / "bert")}


@pytest.mark.ranks
@pytest.mark.parametrize(("config", "more"), CASES)
@pytest.mark.evidence("Every shipped configuration, at small size, trains and saves", how="cpu")
def test_two_steps(
    config: Path, more: tuple[str, ...], published: dict[str, str], tiny_set: Path, tmp_path: Path
) -> None:
    words = [
        f"data.path={tiny_set}", f"run.folder={tmp_path}", "run.name=toy", "data.image_size=32", "data.workers=1",
        "train.steps=2", "train.global_batch=8", "train.log_every=1", "validation.samples=16", "wandb.enabled=false",
        "model.image.decoder.width=16", "model.image.decoder.depth=1", "model.image.decoder.heads=2", "model.channels=16",
        "optimizer.warmup_steps=1", *more,
    ]  # fmt: skip
    if "weights:" in config.read_text():
        words += [f"model.{tower}.weights={folder}" for tower, folder in published.items()]
    else:
        words += ["model.image.width=64", "model.image.depth=1", "model.image.heads=2"]
    done = execute([sys.executable, "-m", "msvl.train", "--config", str(config), *words])
    assert done.code == 0, done.output[-3000:]
    steps = [record for record in read_metrics(tmp_path / "toy" / "metrics.jsonl") if "loss/total" in record]
    assert len(steps) == 2
    assert all(0 < step["loss/total"] < 100 for step in steps)
    # A report of the phantom has more words than any has sentences.
    assert (max(step["train/sentences_per_report"] for step in steps) > 12) == (WORDS in more)
    assert (tmp_path / "toy" / "checkpoints" / "step-00000002" / "model" / "model.safetensors").is_file()

"""Other people's checkpoints, judged by a protocol."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from msvl.cli import main
from msvl.config.errors import DataError
from tests.evaluation.judged_runs import (
    fast_protocol,
    main_debug,
)

torch.set_num_threads(1)


def test_a_foreign_image_encoder_is_probed_and_tuned(packed: Path, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    vit = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=64, patch_size=16
    )
    ViTModel(vit, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    file = tmp_path / "theirs.yaml"
    file.write_text(f"format: huggingface\npath: {tmp_path / 'vit'}\nimage_size: 64\n")
    protocol = fast_protocol(tmp_path / "fast.yaml")
    assert main(["evaluate", str(file), "--data", str(packed), "--protocol", str(protocol), "--resamples", "0"]) == 0
    figures = json.loads((tmp_path / "theirs-evaluation" / "phantom-test-fast.json").read_text())["figures"]
    assert {"auc_mean_at_100"} <= set(figures["linear_probe"]) & set(figures["fine_tuned"])
    assert "dice_image_at_100" in figures["segmentation"]
    for task in ("zero_shot", "retrieval", "grounding"):
        assert figures[task]["left_out"] == f"{task} needs a text encoder: this checkpoint is an image encoder alone"


@pytest.mark.evidence(
    "A foreign ResNet is probed and fine-tuned; what needs blocks or text says why it is left out", how="cpu"
)
def test_a_foreign_resnet_is_probed_and_tuned(packed: Path, tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    shape = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "bottleneck"}
    ResNetModel(ResNetConfig(**shape)).save_pretrained(tmp_path / "resnet")
    file = tmp_path / "theirs.yaml"
    file.write_text(f"format: huggingface\npath: {tmp_path / 'resnet'}\nimage_size: 64\n")
    protocol = fast_protocol(tmp_path / "fast.yaml")
    assert main(["evaluate", str(file), "--data", str(packed), "--protocol", str(protocol), "--resamples", "0"]) == 0
    figures = json.loads((tmp_path / "theirs-evaluation" / "phantom-test-fast.json").read_text())["figures"]
    assert {"auc_mean_at_100"} <= set(figures["linear_probe"]) & set(figures["fine_tuned"])
    why = "segmentation reads the blocks of a vision transformer, and this checkpoint is a ResNetImageEncoder"
    assert figures["segmentation"]["left_out"] == why
    with pytest.raises(DataError, match="segmentation reads the blocks of a vision transformer"):
        main_debug(
            ["evaluate", str(file), "--data", str(packed), "--protocol", str(protocol), "--tasks", "segmentation"]
        )


@pytest.mark.evidence(
    "Foreign checkpoints with a text tower are judged zero-shot, by retrieval and by grounding", how="cpu"
)
def test_a_foreign_checkpoint_with_its_text_side(packed: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    from msvl.data.packed import PackedSet

    words = PackedSet.open(packed).tokenizer_path
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    ViTModel(ViTConfig(**shape, image_size=64, patch_size=16), add_pooling_layer=False).save_pretrained(
        tmp_path / "vit"
    )
    state = BertModel(BertConfig(**shape, vocab_size=300), add_pooling_layer=False).state_dict()
    layers = {f"{name}.weight": torch.randn(16, 24) for name in ("image", "text", "patch")}
    torch.save({f"bert.{name}": value for name, value in state.items()} | layers, tmp_path / "text.pt")
    text = {
        "tokenizer": str(words), "path": str(tmp_path / "text.pt"), "prefix": "bert.", "heads": 3, "projection": ["text"],
        "image_projection": ["image"], "patch_projection": ["patch"],
    }  # fmt: skip
    file = tmp_path / "theirs.yaml"
    protocol = fast_protocol(tmp_path / "fast.yaml")
    wanted = ["--data", str(packed), "--protocol", str(protocol), "--resamples", "0"]
    for name, side, tasks in (("whole", text, "zero_shot,retrieval,grounding"), ("flat", text | {"patch_projection": []}, "grounding")):  # fmt: skip
        content = {"format": "huggingface", "path": str(tmp_path / "vit"), "image_size": 64, "text": side}
        file.write_text(json.dumps(content))
        words_typed = ["evaluate", str(file), *wanted, "--tasks", tasks, "--name", name]
        if name == "whole":
            assert main(words_typed) == 0
            figures = json.loads((tmp_path / "theirs-evaluation" / "whole.json").read_text())["figures"]
            assert {"auc_mean"} <= set(figures["zero_shot"]) and {"miou"} <= set(figures["grounding"])
            assert 0 <= figures["retrieval"]["report_r5"] <= 1
        else:
            with pytest.raises(DataError, match="grounding needs patches in the space of texts"):
                main_debug(words_typed)

"""Other people's vision transformers: mapped to what transformers computes, refused when they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional
from transformers import ViTConfig, ViTModel

from msvl.config.errors import CheckpointError, ConfigError
from msvl.evaluation.protocol_tasks.fine_tuned import Classifier
from msvl.evaluation.recipes import FineTuneRecipe, Schedule
from msvl.evaluation.tuning.blocks import tunable_encoder
from msvl.models.foreign import load_foreign
from tests.models.their_networks import (
    DEPTH,
    HEADS,
    PATCH,
    SIDE,
    WIDTH,
    TimmViT,
    described,
    grey,
    standardised,
)


@pytest.mark.evidence("Foreign ViT and ResNet state dicts compute what their own classes compute", how="cpu")
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_timm_vit_computes_the_same(tmp_path: Path, pooling: str, bias: bool) -> None:
    torch.manual_seed(0)
    theirs = TimmViT(bias=bias).eval()
    state = {f"module.encoder.{name}": value for name, value in theirs.state_dict().items()}
    state |= {"module.encoder.decoder_blocks.0.norm1.weight": torch.ones(3), "module.encoder.mask_token": torch.ones(3)}
    torch.save({"state_dict": state}, tmp_path / "vit.pth")
    file = described(tmp_path, format="timm_vit", path=str(tmp_path / "vit.pth"), prefix="encoder.", pooling=pooling)
    ours = load_foreign(file)
    with torch.no_grad():
        expected = theirs(standardised(grey()))
        found = ours.encode_image(grey())
    pooled = expected[:, 0] if pooling == "cls" else expected[:, 1:].mean(dim=1)
    assert torch.allclose(found.features, pooled, atol=1e-5)
    assert torch.allclose(found.patches, expected[:, 1:], atol=1e-5)
    assert found.grid == (4, 4)


def test_an_fc_norm_stands_behind_the_mean_over_patches(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = TimmViT(fc_norm=True).eval()
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    ours = load_foreign(described(tmp_path, format="timm_vit", path=str(tmp_path / "vit.pth")))
    with torch.no_grad():
        tokens = theirs(standardised(grey()))
        pooled = theirs.fc_norm(tokens[:, 1:].mean(dim=1))
        found = ours.encode_image(grey())
    assert torch.allclose(found.features, pooled, atol=1e-5)
    assert torch.allclose(found.patches, tokens[:, 1:], atol=1e-5)
    assert not torch.allclose(theirs.fc_norm(tokens[:, 1:]).mean(dim=1), pooled, atol=1e-2)
    # Fine-tuned without a norm of its own the head reads the same.
    recipe = FineTuneRecipe(schedules={"10": Schedule(steps=2, lr=0.1)}, head_norm=False, head_std=0.5, drop_path=0.0)
    network = Classifier(*tunable_encoder(ours), recipe, 3).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.allclose(network(grey()), functional.linear(pooled, network.head[0].weight), atol=1e-5)


def test_a_jeonsworld_vit_computes_the_same(tmp_path: Path) -> None:
    plain = ViTModel(vit_config(), add_pooling_layer=False).eval()
    renames = (
        ("embeddings.patch_embeddings.projection.", "transformer.embeddings.patch_embeddings."),
        ("embeddings.", "transformer.embeddings."), ("layers.", "transformer.encoder.layer."),
        (".attention.q_proj.", ".attn.query."), (".attention.k_proj.", ".attn.key."), (".attention.v_proj.", ".attn.value."),
        (".attention.o_proj.", ".attn.out."), (".layernorm_before.", ".attention_norm."), (".layernorm_after.", ".ffn_norm."),
        (".mlp.", ".ffn."), ("layernorm.", "transformer.encoder.encoder_norm."),
    )  # fmt: skip
    state = {}
    for name, value in plain.state_dict().items():
        for new, old in renames:
            if name.startswith(new) or (new.startswith(".") and new in name):
                name = name.replace(new, old, 1)
                if new == "embeddings.patch_embeddings.projection.":
                    break
        state[name] = value
    state["head.weight"] = torch.zeros(5, WIDTH)
    save_file(state, tmp_path / "vit.safetensors")
    ours = load_foreign(
        described(tmp_path, format="jeonsworld_vit", path=str(tmp_path / "vit.safetensors"), pooling="mean")
    )
    with torch.no_grad():
        expected = plain(standardised(grey())).last_hidden_state
        assert torch.allclose(ours.encode_image(grey()).features, expected[:, 1:].mean(dim=1), atol=1e-5)


def test_an_epsilon_of_another_norm_is_taken(tmp_path: Path) -> None:
    torch.save(TimmViT().state_dict(), tmp_path / "vit.pth")
    for name, expected in (({}, 1e-6), ({"layer_norm_eps": 1e-5}, 1e-5)):
        ours = load_foreign(described(tmp_path, format="timm_vit", path=str(tmp_path / "vit.pth"), **name))
        found = {layer.eps for layer in ours.modules() if isinstance(layer, torch.nn.LayerNorm)}
        assert found == {expected}


def vit_config() -> ViTConfig:
    return ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=2 * WIDTH, image_size=SIDE,
        patch_size=PATCH, layer_norm_eps=1e-6,
    )  # fmt: skip


def test_a_huggingface_folder_computes_the_same(tmp_path: Path) -> None:
    plain = ViTModel(vit_config(), add_pooling_layer=False).eval()
    plain.save_pretrained(tmp_path / "vit")
    ours = load_foreign(described(tmp_path, format="huggingface", path=str(tmp_path / "vit")))
    with torch.no_grad():
        assert torch.allclose(
            ours.encode_image(grey()).features, plain(standardised(grey())).last_hidden_state[:, 0], atol=1e-5
        )


def test_a_huggingface_folder_of_transformers_4_computes_the_same(tmp_path: Path) -> None:
    # Published files have the old names.
    plain = ViTModel(vit_config(), add_pooling_layer=False).eval()
    plain.save_pretrained(tmp_path / "vit")
    renames = (
        ("layers.", "encoder.layer."), (".attention.o_proj.", ".attention.output.dense."), (".mlp.fc1.", ".intermediate.dense."),
        (".mlp.fc2.", ".output.dense."), *((f".attention.{new}_proj.", f".attention.attention.{old}.") for new, old in
                                           (("q", "query"), ("k", "key"), ("v", "value"))),
    )  # fmt: skip
    state = {}
    for name, value in plain.state_dict().items():
        for new, old in renames:
            name = name.replace(new, old)
        state[name] = value
    assert "encoder.layer.1.attention.attention.query.weight" in state
    save_file(state, tmp_path / "vit" / "model.safetensors", metadata={"format": "pt"})
    ours = load_foreign(described(tmp_path, format="huggingface", path=str(tmp_path / "vit")))
    with torch.no_grad():
        expected = plain(standardised(grey())).last_hidden_state[:, 0]
        assert torch.allclose(ours.encode_image(grey()).features, expected, atol=1e-5)


def test_faults_are_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = TimmViT().state_dict()
    torch.save(state, tmp_path / "vit.pth")
    path = str(tmp_path / "vit.pth")
    with pytest.raises(
        CheckpointError, match="no weight begins with prefix 'visual.'; the file has blocks., cls_token."
    ):
        load_foreign(described(tmp_path, format="timm_vit", path=path, prefix="visual."))
    with pytest.raises(CheckpointError, match=r"lacks 2 weights of format jeonsworld_vit"):
        load_foreign(described(tmp_path, format="jeonsworld_vit", path=path))
    with pytest.raises(CheckpointError, match="its positions are for images of 32 px: set image_size to that"):
        load_foreign(described(tmp_path, format="timm_vit", path=path, image_size=64))
    with pytest.raises(CheckpointError, match="24 channels are no multiple of heads 5"):
        load_foreign(described(tmp_path, format="timm_vit", path=path, heads=5))
    del state["blocks.1.norm2.bias"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="lacks 1 weights .* layers.1.layernorm_after.bias"):
        load_foreign(described(tmp_path, format="timm_vit", path=path))
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_foreign(described(tmp_path, format="timm_vit", path=str(tmp_path / "nowhere.pth")))
    with pytest.raises(ConfigError, match="format"):
        load_foreign(described(tmp_path, format="tensorflow", path=path))
    with pytest.raises(CheckpointError, match="there is no folder .*nowhere: name a local folder of transformers"):
        load_foreign(described(tmp_path, format="huggingface", path=str(tmp_path / "nowhere")))


def test_a_huggingface_folder_of_another_image_size_or_kind_is_refused(tmp_path: Path) -> None:
    ViTModel(vit_config(), add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    with pytest.raises(CheckpointError, match="its positions are for images of 32 px: set image_size to that"):
        load_foreign(described(tmp_path, format="huggingface", path=str(tmp_path / "vit"), image_size=64))
    (tmp_path / "swin").mkdir()
    (tmp_path / "swin" / "config.json").write_text('{"model_type": "swin"}')
    with pytest.raises(CheckpointError, match="of type 'swin', expected vit or vit_mae or resnet or clip"):
        load_foreign(described(tmp_path, format="huggingface", path=str(tmp_path / "swin")))


@pytest.mark.parametrize("name", ["blocks.0.ls1.gamma", "blocks.1.attn.q_norm.weight", "dist_token", "reg_token", "norm_pre.weight"])  # fmt: skip
def test_a_vit_of_another_architecture_is_refused(tmp_path: Path, name: str) -> None:
    torch.save(TimmViT().state_dict() | {name: torch.ones(WIDTH)}, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=f"1 weights of the encoder have no place .* the first is {name}"):
        load_foreign(described(tmp_path, format="timm_vit", path=str(tmp_path / "vit.pth")))


def test_two_last_norms_are_refused(tmp_path: Path) -> None:
    more = {"fc_norm.weight": torch.ones(WIDTH), "fc_norm.bias": torch.ones(WIDTH)}
    torch.save(TimmViT().state_dict() | more, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match="the file has norm and fc_norm"):
        load_foreign(described(tmp_path, format="timm_vit", path=str(tmp_path / "vit.pth")))

"""The ViT adapter: equal to transformers' own, and blind to hidden patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from transformers import BertConfig, BertModel, ViTConfig, ViTMAEConfig, ViTModel
from transformers.models.vit_mae.modeling_vit_mae import ViTMAEForPreTraining

from msvl.config.errors import CheckpointError
from msvl.models.config import ImageConfig
from msvl.models.families.vit import ViTImageEncoder, blank_hidden, take_tokens
from tests.models.tiny import GRID, PATCH, SIDE, tiny_config, tiny_model

SMALL: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VISIBLE = torch.tensor([[0, 3, 7, 15], [1, 2, 8, 9]])


def published(folder: Path, *, image_size: int = SIDE, patch_size: int = PATCH) -> ViTModel:
    """Save a small ViT with random weights."""
    torch.manual_seed(5)
    model = ViTModel(ViTConfig(image_size=image_size, patch_size=patch_size, **SMALL)).eval()
    model.save_pretrained(folder)
    return model


def encoder_from(name: str, *, image_size: int = SIDE) -> ViTImageEncoder:
    """Load a published encoder by the adapter."""
    encoder = ViTImageEncoder(ViTImageEncoder.describe(ImageConfig(weights=name), image_size), "patch")
    encoder.load_published(name)
    return encoder.eval()


def random_encoder(stem: str) -> ViTImageEncoder:
    """Return the tiny model's image encoder."""
    encoder = tiny_model(tiny_config(image={"stem": stem})).image_encoder
    assert isinstance(encoder, ViTImageEncoder)
    return encoder.eval()


def test_all_patches_are_encoded_as_transformers_does(tmp_path: Path) -> None:
    reference = published(tmp_path)
    pixels = torch.randn(2, 1, SIDE, SIDE)
    encoded = encoder_from(str(tmp_path))(pixels)
    expected = reference(pixels.expand(-1, 3, -1, -1)).last_hidden_state
    torch.testing.assert_close(encoded.cls, expected[:, 0])
    torch.testing.assert_close(encoded.patches, expected[:, 1:])


def test_another_image_size_is_encoded_as_transformers_does(tmp_path: Path) -> None:
    reference = published(tmp_path)
    pixels = torch.randn(2, 1, 48, 48)
    encoded = encoder_from(str(tmp_path), image_size=48)(pixels)
    expected = reference(pixels.expand(-1, 3, -1, -1), interpolate_pos_encoding=True).last_hidden_state
    torch.testing.assert_close(encoded.patches, expected[:, 1:])


def test_a_random_encoder_with_patch_stem_loads_as_a_plain_vit(tmp_path: Path) -> None:
    encoder = random_encoder("patch")
    encoder.save_pretrained(tmp_path)
    reference = ViTModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    pixels = torch.randn(2, 1, SIDE, SIDE)
    expected = reference(pixels.expand(-1, 3, -1, -1)).last_hidden_state
    torch.testing.assert_close(encoder(pixels).patches, expected[:, 1:])


def test_the_encoder_of_a_published_mae_is_read(tmp_path: Path) -> None:
    torch.manual_seed(6)
    decoder: dict[str, Any] = {
        "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2,
    }
    mae = ViTMAEForPreTraining(ViTMAEConfig(image_size=SIDE, patch_size=PATCH, mask_ratio=0.0, **SMALL, **decoder))
    mae.vit.embeddings.position_embeddings.data.normal_()
    mae.eval().save_pretrained(tmp_path)
    pixels = torch.randn(2, 1, SIDE, SIDE)
    in_order = torch.arange(GRID**2).float().expand(2, -1)
    expected = mae.vit(pixels.expand(-1, 3, -1, -1), noise=in_order).last_hidden_state
    encoded = encoder_from(str(tmp_path))(pixels)
    torch.testing.assert_close(encoded.cls, expected[:, 0])
    torch.testing.assert_close(encoded.patches, expected[:, 1:])


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_visible_tokens_do_not_change_when_hidden_pixels_do(stem: str) -> None:
    encoder = random_encoder(stem)
    pixels, other = torch.randn(2, 1, SIDE, SIDE), 5 * torch.randn(2, 1, SIDE, SIDE)
    shown = blank_hidden(torch.ones_like(pixels), VISIBLE, patch=PATCH)
    changed = torch.where(shown.bool(), pixels, other)
    first, second = encoder(pixels, VISIBLE), encoder(changed, VISIBLE)
    assert torch.equal(first.cls, second.cls)
    assert torch.equal(first.patches, second.patches)


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_visible_tokens_change_when_visible_pixels_do(stem: str) -> None:
    encoder = random_encoder(stem)
    pixels = torch.randn(2, 1, SIDE, SIDE)
    changed = pixels.clone()
    changed[1, 0, 0, PATCH] += 1  # the first pixel of patch 1
    first, second = encoder(pixels, VISIBLE), encoder(changed, VISIBLE)
    assert torch.equal(first.patches[0], second.patches[0])
    assert not torch.allclose(first.patches[1], second.patches[1])


def test_dropping_tokens_leaves_their_positions_where_they_were() -> None:
    encoder = random_encoder("patch")
    pixels = torch.randn(2, 1, SIDE, SIDE)
    whole = encoder.embeddings(pixels, None)
    some = encoder.embeddings(pixels, VISIBLE)
    assert torch.equal(some[:, 1:], take_tokens(whole[:, 1:], VISIBLE))
    assert torch.equal(some[:, 0], whole[:, 0])


def test_blanking_keeps_visible_patches_and_zeroes_the_rest() -> None:
    pixels = torch.randn(2, 1, SIDE, SIDE)
    blanked = blank_hidden(pixels, VISIBLE, patch=PATCH)
    for row in range(2):
        for number in range(GRID**2):
            top, left = number // GRID * PATCH, number % GRID * PATCH
            block = (row, 0, slice(top, top + PATCH), slice(left, left + PATCH))
            expected = pixels[block] if number in VISIBLE[row].tolist() else torch.zeros(PATCH, PATCH)
            assert torch.equal(blanked[block], expected)


def test_tokens_of_the_convolutional_stem_start_at_about_unit_size() -> None:
    encoder = random_encoder("conv")
    tokens = encoder.embeddings.patch_embeddings(torch.randn(8, 1, SIDE, SIDE))
    assert tokens.shape == (8, GRID**2, encoder.width)
    assert 0.3 < tokens.std() < 1.5


@pytest.mark.parametrize("patch", [4, 8, 16, 32])
def test_the_convolutional_stem_has_one_token_per_patch(patch: int) -> None:
    width = 4 * patch
    image = {"stem": "conv", "patch": patch, "width": width, "heads": 1}
    encoder = tiny_model(tiny_config(image=image), side=64).image_encoder
    encoded = encoder(torch.randn(1, 1, 64, 64))
    assert encoded.patches.shape == (1, (64 // patch) ** 2, width)


def test_a_name_that_is_nowhere_says_how_to_fetch_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"model.image.weights 'no/such-model' is neither a folder.*hf download"):
        encoder_from("no/such-model")


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=f"{tmp_path}.*weights cannot be read"):
        encoder_from(str(tmp_path))


def test_a_cut_weights_file_is_named(tmp_path: Path) -> None:
    published(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match=f"{tmp_path}.*weights cannot be read"):
        encoder_from(str(tmp_path))


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    BertModel(BertConfig(vocab_size=9, **SMALL)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="holds a model of type 'bert', expected vit or vit_mae"):
        encoder_from(str(tmp_path))


def test_weights_that_would_leave_the_encoder_partly_random_are_refused(tmp_path: Path) -> None:
    model = published(tmp_path)
    state = {name: value for name, value in model.state_dict().items() if "layers.1.mlp" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(CheckpointError, match="lacks 4 weights of the encoder"):
        encoder_from(str(tmp_path))


def test_published_patches_must_divide_the_image(tmp_path: Path) -> None:
    published(tmp_path)
    with pytest.raises(CheckpointError, match="patches of 8 px, which do not divide data.image_size 44"):
        encoder_from(str(tmp_path), image_size=44)

"""The masked autoencoder's decoder and targets."""

from __future__ import annotations

from typing import Any

import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from msvl.models.config import ImageDecoderConfig
from msvl.models.image_decoder import ImageDecoder, patch_targets
from msvl.models.masking import PatchSplit, patch_noise, split_patches

WIDTH, GRID, PATCH = 12, 4, 4
SMALL: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def decoder_and_split() -> tuple[ImageDecoder, PatchSplit]:
    """Return an initialised decoder and masks for three images."""
    torch.manual_seed(0)
    decoder = ImageDecoder(ImageDecoderConfig(width=16, depth=2, heads=2), encoder_width=WIDTH, grid=GRID, patch=PATCH)
    decoder.initialise()
    return decoder, split_patches(patch_noise(0, 0, torch.arange(3), GRID**2), 0.5)


def test_prediction_equals_that_of_mae_with_the_same_weights() -> None:
    decoder, split = decoder_and_split()
    sizes: dict[str, Any] = {
        "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 2,
    }
    config = ViTMAEConfig(
        image_size=GRID * PATCH,
        patch_size=PATCH,
        num_channels=1,
        layer_norm_eps=1e-6,
        decoder_intermediate_size=64,
        **SMALL,
        **sizes,
    )
    reference = ViTMAEForPreTraining(config).decoder
    state = {f"decoder_{name}": value for name, value in decoder.state_dict().items() if name.startswith("layers.")}
    for ours, theirs in (("embed", "decoder_embed"), ("norm", "decoder_norm"), ("pixels", "decoder_pred")):
        for part in ("weight", "bias"):
            state[f"{theirs}.{part}"] = decoder.state_dict()[f"{ours}.{part}"]
    state["mask_token"] = decoder.mask_token
    state["decoder_pos_embed"] = torch.cat([torch.zeros(1, 16), decoder.positions]).unsqueeze(0)
    reference.load_state_dict(state)
    cls, visible = torch.randn(3, WIDTH), torch.randn(3, split.visible.shape[1], WIDTH)
    restore = torch.cat([split.visible, split.masked], dim=1).argsort(dim=1)
    expected = reference(torch.cat([cls.unsqueeze(1), visible], dim=1), restore).logits
    expected = expected.gather(1, split.masked.unsqueeze(-1).expand(-1, -1, PATCH**2))
    torch.testing.assert_close(decoder(cls, visible, split), expected, atol=1e-5, rtol=1e-4)


def test_targets_are_the_patches_that_mae_normalises() -> None:
    images = torch.randn(3, 1, GRID * PATCH, GRID * PATCH)
    images[0, 0, :PATCH, :PATCH] = 0.3  # a flat patch must not blow up
    mae = ViTMAEForPreTraining(ViTMAEConfig(image_size=GRID * PATCH, patch_size=PATCH, num_channels=1, **SMALL))
    patches = mae.patchify(images)
    expected = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6) ** 0.5
    every = torch.arange(GRID**2).expand(3, -1)
    torch.testing.assert_close(patch_targets(images, every, patch=PATCH, normalise=True), expected)
    torch.testing.assert_close(patch_targets(images, every, patch=PATCH, normalise=False), patches)


def test_targets_come_in_the_order_asked_for() -> None:
    images = torch.arange(256.0).reshape(1, 1, 16, 16)
    target = patch_targets(images, torch.tensor([[5, 2]]), patch=PATCH, normalise=False)
    assert target[0, 0, :5].tolist() == [68, 69, 70, 71, 84]
    assert target[0, 1, :5].tolist() == [8, 9, 10, 11, 24]


def test_every_masked_patch_gets_its_own_prediction() -> None:
    decoder, split = decoder_and_split()
    predicted = decoder(torch.randn(3, WIDTH), torch.randn(3, split.visible.shape[1], WIDTH), split)
    assert predicted.shape == (3, split.masked.shape[1], PATCH**2)
    assert not torch.allclose(predicted[0, 0], predicted[0, 1])

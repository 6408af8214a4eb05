"""The model as objectives and judgement see it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from msvl.config.errors import ConfigError
from msvl.data.batch import Tokens
from msvl.models.masking import UNUSED_LABEL
from msvl.models.msvl_model import MSVLModel
from msvl.models.outputs import Embeddings
from tests.models.tiny import (
    GRID,
    LENGTH,
    PATCH,
    SENTENCES,
    SIDE,
    VOCABULARY,
    rows_of,
    tiny_batch,
    tiny_config,
    tiny_model,
    tiny_tokens,
)

VARIANTS = [("patch", "cls"), ("conv", "mean")]


def variant(stem: str, pooling: str) -> MSVLModel:
    """Return a tiny model in one of two kinds."""
    return tiny_model(tiny_config(image={"stem": stem, "pooling": pooling}, text={"pooling": pooling})).eval()


def tensors(embeddings: Embeddings) -> dict[str, Tensor]:
    """Return all tensors that do depend on parameters, by name."""
    found = {item.name: getattr(embeddings, item.name) for item in fields(embeddings) if item.name != "reconstruction"}
    reconstruction = embeddings.reconstruction
    if reconstruction is not None:
        found |= {item.name: getattr(reconstruction, item.name) for item in fields(reconstruction)}
    return {name: value for name, value in found.items() if value is not None}


def total(embeddings: Embeddings) -> Tensor:
    """Return a scalar that every output enters."""
    found = tensors(embeddings)
    logits, labels = found.pop("token_logits").flatten(0, 1), found.pop("token_labels").flatten()
    found.pop("sentence_mask")
    mixed = torch.stack([(value.float() * torch.linspace(-1, 1, value.shape[-1])).mean() for value in found.values()])
    return mixed.square().sum() + cross_entropy(logits, labels, ignore_index=UNUSED_LABEL)


@pytest.mark.parametrize(("stem", "pooling"), VARIANTS)
def test_shapes(stem: str, pooling: str) -> None:
    found = tensors(variant(stem, pooling)(tiny_batch(), seed=0, reconstruct=True))
    num_masked = GRID**2 // 2
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "image": (5, 20),
        "text": (5, 20),
        "patches": (5, GRID**2, 20),
        "sentences": (5, SENTENCES, 20),
        "sentence_mask": (5, SENTENCES),
        "masked_image": (5, 20),
        "masked_text": (5, 20),
        "patch_prediction": (5, num_masked, PATCH**2),
        "patch_target": (5, num_masked, PATCH**2),
        "token_logits": (5, (LENGTH - 2) // 2, VOCABULARY),
        "token_labels": (5, (LENGTH - 2) // 2),
    }


def test_a_batch_alone_is_enough() -> None:
    model = variant("patch", "cls")
    found = model(tiny_batch())
    assert found.reconstruction is None
    assert torch.equal(found.text, model(tiny_batch(), seed=5, reconstruct=False).text)


def test_global_embeddings_have_unit_length() -> None:
    embeddings = variant("conv", "mean")(tiny_batch(), seed=0, reconstruct=True)
    for value in (embeddings.image, embeddings.text, embeddings.masked_image, embeddings.masked_text):
        assert value is not None
        torch.testing.assert_close(value.norm(dim=-1), torch.ones(5))


@pytest.mark.parametrize(("stem", "pooling"), VARIANTS)
def test_a_sample_alone_gives_what_it_gives_in_a_batch(stem: str, pooling: str) -> None:
    model, batch = variant(stem, pooling), tiny_batch()
    together = tensors(model(batch, seed=0, reconstruct=True))
    for row in range(5):
        alone = tensors(model(rows_of(batch, [row]), seed=0, reconstruct=True))
        for name, value in alone.items():
            torch.testing.assert_close(value[0], together[name][row], atol=1e-5, rtol=1e-5, msg=name)


def test_the_order_of_the_batch_does_not_matter() -> None:
    model, batch, order = variant("conv", "mean"), tiny_batch(), [4, 2, 0, 3, 1]
    straight = tensors(model(batch, seed=0, reconstruct=True))
    moved = tensors(model(rows_of(batch, order), seed=0, reconstruct=True))
    for name, value in moved.items():
        torch.testing.assert_close(value, straight[name][order], atol=1e-5, rtol=1e-5, msg=name)


def test_padding_of_reports_does_not_matter() -> None:
    model, batch = variant("patch", "mean"), tiny_batch()
    tokens = batch.tokens
    trimmed = replace(
        tokens,
        input_ids=tokens.input_ids[:, :18],
        attention_mask=tokens.attention_mask[:, :18],
        sentence_index=tokens.sentence_index[:, :18],
    )
    whole = model(batch, seed=0, reconstruct=True)
    short = model(replace(batch, tokens=trimmed), seed=0, reconstruct=True)
    for name in ("text", "sentences", "masked_text"):
        torch.testing.assert_close(getattr(short, name), getattr(whole, name), atol=1e-5, rtol=1e-5, msg=name)


def test_padded_sentence_places_are_exactly_zero() -> None:
    embeddings = variant("patch", "cls")(tiny_batch(), seed=0, reconstruct=False)
    assert (embeddings.sentences[~embeddings.sentence_mask] == 0).all()
    assert (embeddings.sentences[embeddings.sentence_mask].abs().sum(dim=-1) > 0).all()


def test_sentences_are_means_of_projected_tokens() -> None:
    model, tokens = variant("patch", "cls"), tiny_batch().tokens
    projected = model.sentence_projection(model.text_encoder(tokens.input_ids, tokens.attention_mask))
    sentences = model.encode_text(tokens).sentences
    for row, number in tokens.sentence_mask.nonzero().tolist():
        expected = projected[row][tokens.sentence_index[row] == number].mean(dim=0)
        torch.testing.assert_close(sentences[row, number], expected, atol=1e-5, rtol=1e-5)


def test_judgement_sees_the_embeddings_that_training_sees() -> None:
    model, batch = variant("conv", "mean"), tiny_batch()
    trained = model(batch, seed=0, reconstruct=True)
    image, text = model.encode_image(batch.images), model.encode_text(batch.tokens)
    assert image.grid == (GRID, GRID)
    torch.testing.assert_close(image.image, trained.image)
    torch.testing.assert_close(image.patches, trained.patches)
    torch.testing.assert_close(text.text, trained.text, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(text.sentences, trained.sentences, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_features_are_the_encoder_s_own(pooling: str) -> None:
    model, images = variant("patch", pooling), tiny_batch().images
    encoded = model.image_encoder(model.standardise(images))
    expected = encoded.cls if pooling == "cls" else encoded.patches.mean(dim=1)
    torch.testing.assert_close(model.encode_image(images).features, expected)


def test_standardised_pixels_have_the_training_set_s_mean_at_zero() -> None:
    model = tiny_model()
    grey = torch.full((1, 1, 32, 32), 255, dtype=torch.uint8)
    torch.testing.assert_close(model.standardise(grey), torch.full((1, 1, 32, 32), (1 - 0.5) / 0.25))


def test_masks_change_with_the_step_and_only_masked_outputs_follow() -> None:
    model, batch = variant("patch", "cls"), tiny_batch()
    first = model(batch, seed=0, reconstruct=True)
    second = model(replace(batch, step=8), seed=0, reconstruct=True)
    assert torch.equal(first.image, second.image)
    assert first.masked_image is not None and second.masked_image is not None
    assert not torch.allclose(first.masked_image, second.masked_image)
    assert first.masked_text is not None and second.masked_text is not None
    assert not torch.allclose(first.masked_text, second.masked_text)


def test_masked_text_does_not_know_the_hidden_words() -> None:
    model, batch = variant("patch", "mean"), tiny_batch()
    reconstruction = model(batch, seed=0, reconstruct=True).reconstruction
    assert reconstruction is not None
    used = reconstruction.token_labels != UNUSED_LABEL
    assert used.sum(dim=1).tolist() == [8, 1, 8, 6, 6]
    true = torch.sort(batch.tokens.input_ids[3][batch.tokens.sentence_index[3] >= 0]).values.tolist()
    for label in reconstruction.token_labels[3][used[3]].tolist():
        true.remove(label)


@pytest.mark.parametrize(("stem", "pooling"), VARIANTS)
def test_every_parameter_is_reached_and_none_is_zero_dimensional(stem: str, pooling: str) -> None:
    model = variant(stem, pooling).train()
    total(model(tiny_batch(), seed=0, reconstruct=True)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.ndim > 0, name
        assert parameter.grad is not None, name
        if not name.endswith(("k_proj.bias", "key.bias")):  # softmax does not see a key bias
            assert parameter.grad.abs().sum() > 0, name


def test_recomputing_layers_gives_the_same_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        model = tiny_model(tiny_config(gradient_checkpointing=recompute)).train()
        layers = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
        assert bool(layers) == recompute
        total(model(tiny_batch(), seed=0, reconstruct=True)).backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_no_value_is_looked_at_and_no_shape_depends_on_data() -> None:
    # The meta device has no values: an .item() or a mask used as an index raises there.
    model, batch = variant("conv", "mean").to("meta"), tiny_batch().to("meta")
    embeddings = model(batch, seed=0, reconstruct=True)
    assert embeddings.image.is_meta
    assert embeddings.reconstruction is not None
    assert embeddings.reconstruction.token_logits.is_meta


def test_bfloat16_stays_close_to_float32() -> None:
    model, batch = variant("conv", "mean"), tiny_batch()
    exact = model(batch, seed=0, reconstruct=True)
    rough = model.bfloat16()(batch, seed=0, reconstruct=True)
    assert rough.image.dtype == torch.float32
    for name in ("image", "text", "masked_image", "masked_text"):
        torch.testing.assert_close(getattr(rough, name), getattr(exact, name), atol=0.05, rtol=0.05, msg=name)


def test_fine_targets_change_what_is_predicted_and_nothing_that_is_seen() -> None:
    coarse = tiny_batch()
    # Blocks of four equal pixels: their means are the coarse image.
    fine = replace(coarse, images=coarse.images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    models = [tiny_model(target_scale=scale).eval() for scale in (1, 2)]
    models[1].load_state_dict(
        {name: value for name, value in models[0].state_dict().items() if "decoder.pixels" not in name}, strict=False
    )
    one, two = (model(batch, seed=0, reconstruct=True) for model, batch in zip(models, (coarse, fine), strict=True))
    for name in ("image", "patches", "masked_image", "text", "sentences"):
        torch.testing.assert_close(getattr(two, name), getattr(one, name), msg=name)
    assert two.reconstruction is not None
    assert one.reconstruction is not None
    assert two.reconstruction.patch_prediction.shape[-1] == (2 * PATCH) ** 2
    # Four copies of every pixel standardise to four copies of the standardised pixel, but for the unbiased variance.
    copies = two.reconstruction.patch_target.unflatten(-1, (PATCH, 2, PATCH, 2))
    torch.testing.assert_close(copies[..., 0, :, 0], copies[..., 1, :, 1])
    factor = ((4 * PATCH**2 - 1) / (4 * PATCH**2) * PATCH**2 / (PATCH**2 - 1)) ** 0.5
    expected = one.reconstruction.patch_target.unflatten(-1, (PATCH, PATCH)) * factor
    torch.testing.assert_close(copies[..., 0, :, 0], expected, atol=1e-4, rtol=1e-4)


def test_the_encoder_sees_block_means() -> None:
    batch = tiny_batch(side=2 * SIDE)
    model = tiny_model(target_scale=2).eval()
    means = batch.images.float().unflatten(2, (SIDE, 2)).unflatten(4, (SIDE, 2)).mean(dim=(3, 5))
    expected = model.image_encoder((means / 255 - 0.5) / 0.25).patches
    patches = model(batch, seed=0, reconstruct=False).patches
    torch.testing.assert_close(patches, model.patch_projection(expected), atol=1e-5, rtol=1e-4)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="images are 40 x 40 px but the model reads 32 px: set data.image_size"):
        tiny_model().encode_image(torch.zeros(1, 1, 40, 40, dtype=torch.uint8))


def test_reports_beyond_the_encoder_s_positions_are_refused() -> None:
    tokens = tiny_tokens([[5]], length=600)
    with pytest.raises(ConfigError, match="600 tokens but the text encoder reads 512: lower data.report.max_tokens"):
        tiny_model().encode_text(Tokens(*(getattr(tokens, name) for name in Tokens.__dataclass_fields__)))

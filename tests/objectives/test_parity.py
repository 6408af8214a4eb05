"""Parity of the modality scale with the masked losses of `transformers`: values, and gradients of every parameter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, ViTMAEConfig, ViTMAEForPreTraining

from msvl.models.image_decoder import patch_targets
from msvl.models.outputs import Reconstruction
from msvl.models.text_decoder import TextDecoder
from msvl.objectives.config import ModalityScaleConfig
from msvl.objectives.modality_scale import ModalityScale
from msvl.training.gradcheck.made_up import Sizes, make_embeddings, make_ids
from tests.objectives.one_rank import run_scale

PAIRS, PATCH, GRID, LENGTH, VOCABULARY = 5, 4, 4, 9, 23
UNUSED = -100


def modality_loss(reconstruction: Reconstruction) -> Tensor:
    """Return our loss of these predictions, without the cross-sample term."""
    sizes = Sizes(pairs=PAIRS)
    embeddings = make_embeddings(sizes)
    embeddings = type(embeddings)(**{**vars(embeddings), "reconstruction": reconstruction})
    scale = ModalityScale(ModalityScaleConfig(cross_sample_weight=0.0), channels=sizes.channels, seed=0)
    return run_scale(scale, embeddings, make_ids(PAIRS, "none")).loss


def same_gradients(ours: Tensor, theirs: Tensor, parameters: list[nn.Parameter]) -> None:
    found = torch.autograd.grad(ours, parameters, retain_graph=True, materialize_grads=True)
    expected = torch.autograd.grad(theirs, parameters, retain_graph=True, materialize_grads=True)
    assert sum(float(gradient.norm()) for gradient in expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.evidence("The masked-patch loss is ViTMAE's of transformers, gradients included", how="cpu")
@pytest.mark.parametrize("normalise", [True, False])
def test_masked_patches_cost_what_vitmae_says(normalise: bool) -> None:
    torch.manual_seed(0)
    config = ViTMAEConfig(
        image_size=GRID * PATCH, patch_size=PATCH, num_channels=1, mask_ratio=0.5, norm_pix_loss=normalise,
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        decoder_hidden_size=12, decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    model = ViTMAEForPreTraining(config)
    pixels = torch.randn(PAIRS, 1, GRID * PATCH, GRID * PATCH)
    theirs = model(pixels, noise=torch.rand(PAIRS, GRID**2))
    masked = theirs.mask.bool().nonzero()[:, 1].reshape(PAIRS, -1)
    assert masked.shape[1] == GRID**2 // 2
    ours = modality_loss(
        Reconstruction(
            patch_prediction=theirs.logits.gather(1, masked.unsqueeze(-1).expand(-1, -1, PATCH**2)),
            patch_target=patch_targets(pixels, masked, patch=PATCH, normalise=normalise),
            token_logits=torch.zeros(PAIRS, 1, VOCABULARY),
            token_labels=torch.full((PAIRS, 1), UNUSED),
        )
    )
    torch.testing.assert_close(ours, theirs.loss, rtol=1e-6, atol=0)
    same_gradients(ours, theirs.loss, [weight for weight in model.parameters() if weight.requires_grad])


@pytest.mark.evidence("The masked-token loss is BERT's of transformers, gradients included", how="cpu")
def test_masked_tokens_cost_what_bert_says() -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=LENGTH, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    head = model.cls.predictions
    nn.init.normal_(head.decoder.bias)
    decoder = TextDecoder(config.hidden_size, VOCABULARY)
    for ours_part, theirs_part in (
        (decoder.dense, head.transform.dense), (decoder.norm, head.transform.LayerNorm), (decoder.words, head.decoder),
    ):  # fmt: skip
        ours_part.weight, ours_part.bias = theirs_part.weight, theirs_part.bias
    ids = torch.randint(5, VOCABULARY, (PAIRS, LENGTH))
    counts = [1, 3, 2, 4, 1]  # a mean per report would differ
    places = torch.stack([torch.randperm(LENGTH)[: max(counts)] for _ in counts])
    used = torch.arange(max(counts)) < torch.tensor(counts).unsqueeze(1)
    labels = torch.where(used, ids.gather(1, places), UNUSED)
    theirs = model(ids, labels=torch.full_like(ids, UNUSED).scatter(1, places, labels)).loss
    hidden = model.bert(ids).last_hidden_state
    ours = modality_loss(
        Reconstruction(
            patch_prediction=torch.zeros(PAIRS, 1, 4),
            patch_target=torch.zeros(PAIRS, 1, 4),
            token_logits=decoder(hidden.gather(1, places.unsqueeze(-1).expand(-1, -1, config.hidden_size))),
            token_labels=labels,
        )
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    same_gradients(ours, theirs, list(model.parameters()))

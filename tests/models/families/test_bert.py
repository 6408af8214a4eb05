"""The BERT adapter: equal to transformers' own, head included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from msvl.config.errors import CheckpointError, ConfigError
from msvl.models.config import TextConfig
from msvl.models.families.bert import BertTextEncoder
from msvl.models.text_decoder import TextDecoder
from tests.models.tiny import PAD, VOCABULARY, tiny_tokens

SMALL = BertConfig(
    vocab_size=VOCABULARY, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)
TOKENS = tiny_tokens([[5, 4, 6], [1], [7, 8]])


def encoder_from(folder: Path, *, vocab_size: int = VOCABULARY) -> tuple[BertTextEncoder, TextDecoder]:
    """Load encoder and head by the adapter."""
    encoder = BertTextEncoder(BertTextEncoder.describe(TextConfig(weights=str(folder)), vocab_size, PAD), 0.0)
    decoder = TextDecoder(encoder.width, VOCABULARY)
    encoder.load_published(str(folder), decoder)
    return encoder.eval(), decoder


@pytest.mark.parametrize("model_class", [BertModel, BertForMaskedLM])
def test_states_of_tokens_are_those_of_transformers(tmp_path: Path, model_class: type) -> None:
    torch.manual_seed(5)
    reference = model_class(SMALL).eval()
    reference.save_pretrained(tmp_path)
    encoder, _ = encoder_from(tmp_path)
    bert = reference.bert if model_class is BertForMaskedLM else reference
    expected = bert(input_ids=TOKENS.input_ids, attention_mask=TOKENS.attention_mask).last_hidden_state
    seen = TOKENS.attention_mask.bool()
    torch.testing.assert_close(encoder(TOKENS.input_ids, TOKENS.attention_mask)[seen], expected[seen])


def test_padding_changes_nothing(tmp_path: Path) -> None:
    BertModel(SMALL).save_pretrained(tmp_path)
    encoder, _ = encoder_from(tmp_path)
    longer = torch.nn.functional.pad(TOKENS.input_ids, (0, 9), value=7)
    mask = torch.nn.functional.pad(TOKENS.attention_mask, (0, 9))
    short, long = encoder(TOKENS.input_ids, TOKENS.attention_mask), encoder(longer, mask)
    seen = TOKENS.attention_mask.bool()
    torch.testing.assert_close(long[:, : short.shape[1]][seen], short[seen], atol=1e-5, rtol=1e-5)


def test_the_published_masked_language_head_is_taken_over(tmp_path: Path) -> None:
    torch.manual_seed(5)
    reference = BertForMaskedLM(SMALL).eval()
    reference.cls.predictions.decoder.bias.data.normal_()
    reference.save_pretrained(tmp_path)
    encoder, decoder = encoder_from(tmp_path)
    logits = decoder(encoder(TOKENS.input_ids, TOKENS.attention_mask))
    expected = reference(input_ids=TOKENS.input_ids, attention_mask=TOKENS.attention_mask).logits
    seen = TOKENS.attention_mask.bool()
    torch.testing.assert_close(logits[seen], expected[seen], atol=1e-5, rtol=1e-5)


def test_without_a_published_head_words_start_at_their_embeddings(tmp_path: Path) -> None:
    reference = BertModel(SMALL)
    reference.save_pretrained(tmp_path)
    _, decoder = encoder_from(tmp_path)
    assert torch.equal(decoder.words.weight, reference.embeddings.word_embeddings.weight)


def test_a_tokenizer_with_more_tokens_than_the_weights_is_refused(tmp_path: Path) -> None:
    BertModel(SMALL).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has 51 tokens but model.text.weights .* knows 50: set model.text.tokenizer"):
        encoder_from(tmp_path, vocab_size=51)


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"model.text.weights '{tmp_path}': the folder has no readable config"):
        encoder_from(tmp_path)


def test_weights_without_an_encoder_are_refused(tmp_path: Path) -> None:
    model = BertForMaskedLM(SMALL)
    state = {name: value for name, value in model.state_dict().items() if "layer.1.attention" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(CheckpointError, match="lacks 10 weights of the encoder"):
        encoder_from(tmp_path)

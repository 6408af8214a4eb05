"""Adapter for BERT: token 0 is [CLS], attention is bidirectional, padding is never attended to."""

from __future__ import annotations

import logging
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM
from transformers import initialization as init
from transformers.models.bert.modeling_bert import BertEmbeddings, BertEncoder, BertPreTrainedModel

from msvl.config.errors import ConfigError
from msvl.models.config import TextConfig
from msvl.models.families.published import load_published_model, published_settings, refuse_missing
from msvl.models.text_decoder import TextDecoder

logger = logging.getLogger(__name__)

KEY = "model.text.weights"
MODEL_TYPES = ("bert",)
POSITION_STRENGTH = 0.1
"""Standard deviation of a random model's positions as a share of the words'."""
ARCHITECTURE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
)


class BertTextEncoder(BertPreTrainedModel):
    """transformers' BERT without pooler; parameter names are BertModel's."""

    def __init__(self, settings: dict[str, Any], dropout: float) -> None:
        """Build the encoder that `describe` describes, with random weights."""
        super().__init__(
            BertConfig(
                **settings,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
            )
        )
        self.set_attn_implementation("sdpa")
        self.width: int = self.config.hidden_size
        self.max_tokens: int = self.config.max_position_embeddings
        self.embeddings = BertEmbeddings(self.config)
        self.encoder = BertEncoder(self.config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As BERT, with faint positions: at full strength they drown what differs between reports (see `vit`)."""
        super()._init_weights(module)
        if isinstance(module, BertEmbeddings):
            init.normal_(module.position_embeddings.weight, std=POSITION_STRENGTH * self.config.initializer_range)
            init.zeros_(module.token_type_embeddings.weight)

    @classmethod
    def describe(cls, config: TextConfig, vocab_size: int, pad_id: int) -> dict[str, Any]:
        """Return the BertConfig fields of a random model, or of the published one.

        Raises ConfigError when the tokenizer knows more tokens than the published model.
        """
        if config.weights is None:
            return {
                "vocab_size": vocab_size,
                "hidden_size": config.width,
                "num_hidden_layers": config.depth,
                "num_attention_heads": config.heads,
                "intermediate_size": config.mlp_width,
                "pad_token_id": pad_id,
                # 0.02 at 768 channels (BERT), kept in proportion to 1 / sqrt(width).
                "initializer_range": 0.02 * (768 / config.width) ** 0.5,
            }
        published = BertConfig(**published_settings(config.weights, key=KEY, model_types=MODEL_TYPES))
        if vocab_size > published.vocab_size:
            raise ConfigError(
                f"the tokenizer has {vocab_size} tokens but {KEY} '{config.weights}' knows {published.vocab_size}: set "
                "model.text.tokenizer to the tokenizer of these weights"
            )
        return {name: getattr(published, name) for name in ARCHITECTURE}

    def load_published(self, name: str, decoder: TextDecoder) -> None:
        """Fill the encoder from a local folder or hub name, and the MLM head from the same files where they hold one.

        The head's last layer is not tied to the word embeddings during training, because ZeRO-3 partitions each
        module's parameters for itself; it starts as their copy, as published BERTs are tied.
        """
        source, missing = load_published_model(BertForMaskedLM, name, key=KEY)
        refuse_missing(sorted(key for key in missing if key.startswith("bert.")), name=name, key=KEY)
        self.load_state_dict(source.bert.state_dict())
        head = source.cls.predictions
        decoder.words.weight.data.copy_(head.decoder.weight)
        if any(key.startswith("cls.predictions.transform") for key in missing):
            logger.info("%s '%s' has no masked-language head: its hidden layer starts at random", KEY, name)
            return
        decoder.dense.load_state_dict(head.transform.dense.state_dict())
        decoder.norm.load_state_dict(head.transform.LayerNorm.state_dict())
        decoder.words.bias.data.copy_(head.decoder.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode [B, L] tokens into last hidden states [B, L, E]; states of padding mean nothing."""
        length = input_ids.shape[1]
        # The mask is built here because transformers' own helper looks at its values, which stops a GPU to ask.
        seen = rearrange(attention_mask.bool(), "b l -> b 1 1 l").expand(-1, 1, length, length)
        hidden = self.embeddings(input_ids=input_ids)
        states: Tensor = self.encoder(hidden, attention_mask=seen).last_hidden_state
        return states

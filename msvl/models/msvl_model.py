"""Two encoders, two light decoders and their projections: a batch in, embeddings out.

B local batch, N patches, V visible and M masked patches, L token and S sentence capacity, K masked-token capacity,
F image and E text encoder channels, C shared channels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from einops import reduce
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from msvl.config.errors import ConfigError
from msvl.data.batch import Batch, Tokens
from msvl.models.families import IMAGE_FAMILIES, TEXT_FAMILIES
from msvl.models.families.encoded import EncodedImage, ImageEncoder, TextEncoder
from msvl.models.heads import mean_over_sentences, mean_over_tokens, to_unit_length
from msvl.models.image_decoder import ImageDecoder, patch_targets
from msvl.models.masking import MaskedTokens, mask_tokens, patch_noise, split_patches
from msvl.models.model_card import CARD, model_card
from msvl.models.msvl_config import MSVLConfig
from msvl.models.outputs import Embeddings, ImageEmbeddings, Reconstruction, TextEmbeddings
from msvl.models.text_decoder import TextDecoder


@dataclass(frozen=True)
class _MaskedImage:
    embedding: Tensor
    prediction: Tensor
    target: Tensor


class MSVLModel(PreTrainedModel):
    """The model that objectives and judgement see."""

    config_class = MSVLConfig
    base_model_prefix = "msvl"
    main_input_name = "batch"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: MSVLConfig) -> None:
        """Build with random weights; `build.build_model` fills in published encoders."""
        super().__init__(config)
        image, text = config.image_section, config.text_section
        encoder = IMAGE_FAMILIES[image.family](dict(config.image_network or {}), image.stem)
        self.image_encoder: ImageEncoder = encoder
        self.text_encoder: TextEncoder = TEXT_FAMILIES[text.family](dict(config.text_network or {}), text.dropout)
        self.grid = config.image_size // encoder.patch
        self.image_projection = nn.Linear(encoder.width, config.channels)
        self.patch_projection = nn.Linear(encoder.width, config.channels)
        self.text_projection = nn.Linear(self.text_encoder.width, config.channels)
        self.sentence_projection = nn.Linear(self.text_encoder.width, config.channels)
        self.target_patch = encoder.patch * config.target_scale
        self.image_decoder = ImageDecoder(
            image.decoder, encoder_width=encoder.width, grid=self.grid, patch=self.target_patch
        )
        self.vocab_size: int = (config.text_network or {})["vocab_size"]
        self.text_decoder = TextDecoder(self.text_encoder.width, self.vocab_size)
        self.image_pooling, self.text_pooling = image.pooling, text.pooling
        self.image_mask_ratio, self.text_mask_ratio = image.mask_ratio, text.mask_ratio
        self.normalise_target = image.normalise_target
        self.post_init()
        if config.recompute_layers:
            self.activation_checkpointing_enable({"use_reentrant": False})

    def forward(self, batch: Batch, *, seed: int = 0, reconstruct: bool = False) -> Embeddings:
        """Embed a batch; with `reconstruct` also predict what is hidden in masked copies of it.

        Masks depend on (seed, batch.step, sample id) alone. No shape depends on the data.

        Args:
            batch: This rank's pairs, on the model's device; images of `target_scale` times the model's side.
            seed: The run's; used by the masked passes alone.
            reconstruct: Run the masked passes and the decoders. The masked copy of the reports goes through the text
                encoder together with the reports, as one batch of 2B.
        """
        fine = self._standardise(batch.images, self.config.image_size * self.config.target_scale)
        pixels = _block_means(fine, self.config.target_scale)
        image = self._embed_image(self.image_encoder(pixels))
        if not reconstruct:
            return _joined(image, self.encode_text(batch.tokens))
        sample = batch.ids.sample
        masked_image = self._masked_image_pass(pixels, fine, patch_noise(seed, batch.step, sample, self.grid**2))
        hidden_tokens = mask_tokens(
            batch.tokens,
            seed=seed,
            step=batch.step,
            sample=sample,
            mask_ratio=self.text_mask_ratio,
            mask_id=self.config.mask_token_id,
            unknown_id=self.config.unknown_token_id,
            vocab_size=self.vocab_size,
        )
        text, masked_text, logits = self._both_text_passes(batch.tokens, hidden_tokens)
        return replace(
            _joined(image, text),
            masked_image=masked_image.embedding,
            masked_text=masked_text,
            reconstruction=Reconstruction(
                patch_prediction=masked_image.prediction,
                patch_target=masked_image.target,
                token_logits=logits,
                token_labels=hidden_tokens.labels,
            ),
        )

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        *args: Any,
        sources: Sequence[Mapping[str, str]] = (),
        **kwargs: Any,
    ) -> None:
        """Write what transformers writes, and the model card. A tokenizer is no part of the model: see `exported`.

        Args:
            save_directory: Created when absent.
            is_main_process: Whether this process writes, as in transformers.
            args: Of transformers.
            sources: Data sets with "name" and "licence" that it was trained on, for the card.
            kwargs: Of transformers.
        """
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)
        if is_main_process:
            assert isinstance(self.config, MSVLConfig)
            card = model_card(self.config, sources=sources, num_parameters=self.num_parameters())
            (Path(save_directory) / CARD).write_text(card, encoding="utf-8")

    def encode_image(self, images: Tensor) -> ImageEmbeddings:
        """Embed grey uint8 images [B, 1, H, W]. Raises ConfigError when they are not of the model's size."""
        return self._embed_image(self.image_encoder(self.standardise(images)))

    def encode_text(self, tokens: Tokens) -> TextEmbeddings:
        """Embed tokenised reports. Raises ConfigError when they are longer than the encoder can read."""
        self._check_length(tokens)
        return self._embed_text(self.text_encoder(tokens.input_ids, tokens.attention_mask), tokens)

    def standardise(self, images: Tensor) -> Tensor:
        """Map uint8 [B, 1, H, W] to the model's dtype with the training set's mean 0 and standard deviation 1."""
        return self._standardise(images, self.config.image_size)

    def _standardise(self, images: Tensor, side: int) -> Tensor:
        if images.shape[-2:] != (side, side):
            found = f"{images.shape[-2]} x {images.shape[-1]}"
            raise ConfigError(
                f"images are {found} px but the model reads {side} px: set data.image_size (times data.target_scale) to {side}"
            )
        scale, shift = 1 / (255 * self.config.pixel_std), self.config.pixel_mean / self.config.pixel_std
        pixels: Tensor = (images.float() * scale - shift).to(self.image_projection.weight.dtype)
        return pixels

    def _embed_image(self, encoded: EncodedImage) -> ImageEmbeddings:
        features = self._pool_image(encoded)
        return ImageEmbeddings(
            image=to_unit_length(self.image_projection(features)),
            patches=self.patch_projection(encoded.patches),
            grid=(self.grid, self.grid),
            features=features,
        )

    def _pool_image(self, encoded: EncodedImage) -> Tensor:
        return encoded.cls if self.image_pooling == "cls" else encoded.patches.mean(dim=1)

    def _masked_image_pass(self, pixels: Tensor, fine: Tensor, noise: Tensor) -> _MaskedImage:
        split = split_patches(noise, self.image_mask_ratio)
        encoded = self.image_encoder(pixels, split.visible)
        return _MaskedImage(
            embedding=to_unit_length(self.image_projection(self._pool_image(encoded))),
            prediction=self.image_decoder(encoded.cls, encoded.patches, split),
            target=patch_targets(fine, split.masked, patch=self.target_patch, normalise=self.normalise_target),
        )

    def _both_text_passes(self, tokens: Tokens, masked: MaskedTokens) -> tuple[TextEmbeddings, Tensor, Tensor]:
        """Return embeddings, masked report embeddings [B, C] and logits [B, K, V]."""
        self._check_length(tokens)
        both = torch.cat([tokens.input_ids, masked.input_ids])
        attention = torch.cat([tokens.attention_mask, tokens.attention_mask])
        hidden, masked_hidden = self.text_encoder(both, attention).chunk(2)
        places = masked.places.unsqueeze(-1).expand(-1, -1, masked_hidden.shape[-1])
        logits = self.text_decoder(masked_hidden.gather(1, places))
        masked_text = to_unit_length(self.text_projection(self._pool_text(masked_hidden, tokens)))
        return self._embed_text(hidden, tokens), masked_text, logits

    def _embed_text(self, hidden: Tensor, tokens: Tokens) -> TextEmbeddings:
        filled = tokens.sentence_mask
        sentences = self.sentence_projection(mean_over_sentences(hidden, tokens.sentence_index, filled.shape[1]))
        return TextEmbeddings(
            text=to_unit_length(self.text_projection(self._pool_text(hidden, tokens))),
            sentences=sentences.masked_fill(~filled.unsqueeze(-1), 0.0),
            sentence_mask=filled,
        )

    def _pool_text(self, hidden: Tensor, tokens: Tokens) -> Tensor:
        return hidden[:, 0] if self.text_pooling == "cls" else mean_over_tokens(hidden, tokens.attention_mask)

    def _check_length(self, tokens: Tokens) -> None:
        length, limit = tokens.input_ids.shape[1], self.text_encoder.max_tokens
        if length > limit:
            raise ConfigError(
                f"reports have {length} tokens but the text encoder reads {limit}: lower data.report.max_tokens"
            )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what is not inside an encoder; encoders have their own rule."""
        if isinstance(module, (ImageDecoder, TextDecoder)):
            module.initialise()
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=0.02)
            init.zeros_(module.bias)


def _block_means(pixels: Tensor, side: int) -> Tensor:
    """Return the means over blocks of `side` x `side` pixels."""
    return reduce(pixels, "b c (h p) (w q) -> b c h w", "mean", p=side, q=side) if side > 1 else pixels


def _joined(image: ImageEmbeddings, text: TextEmbeddings) -> Embeddings:
    return Embeddings(
        image=image.image,
        text=text.text,
        patches=image.patches,
        sentences=text.sentences,
        sentence_mask=text.sentence_mask,
    )

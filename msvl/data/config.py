"""Configuration of the stream from shards to batches (no torch here)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from msvl.config.base import Config
from msvl.data.cache import CacheConfig
from msvl.data.storage import RemoteConfig


class AugmentConfig(Config):
    """Random changes of training images, keyed by (seed, epoch, sample)."""

    enabled: bool = True
    """Off gives the evaluation transform."""
    scale: tuple[float, float] = (0.8, 1.0)
    """Range of the crop's area as a share of the largest square (CXR-CLIP's lower end; above 1 would be padding)."""
    rotation_degrees: float = Field(5.0, ge=0, le=45)
    """Rotation is drawn from plus or minus this (ours; MaCo turns by up to 20)."""
    brightness: float = Field(0.2, ge=0, le=1)
    """Offset is drawn from plus or minus this share of the grey range (ours, of the size of CXR-CLIP's jitter)."""
    contrast: float = Field(0.2, ge=0, lt=1)
    """Gain is drawn from 1 plus or minus this (ours, of the size of CXR-CLIP's jitter)."""

    flip_share: float = Field(0.0, ge=0, le=1)
    """Share of images that are mirrored: none, because reports name sides (for image-only training, 0.5 is the field's)."""

    @model_validator(mode="after")
    def _check(self) -> AugmentConfig:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale: expected 0 < lower <= upper <= 1, found [{low:g}, {high:g}]")
        return self


class ReportConfig(Config):
    """Which text of a report is read, and how."""

    sections: tuple[str, ...] = ("findings", "impression")
    """Sections in this order; a report with none of them falls back to its whole text."""
    max_tokens: PositiveInt = 112
    """L, token capacity (MGCA: 112); what is beyond is cut at a sentence's end where possible."""
    max_sentences: PositiveInt = 12
    """S, sentence capacity."""
    unit: Literal["sentence", "word"] = "sentence"
    """What the local scale aligns with patches in training: sentences (the paper) or words (GLoRIA)."""
    max_words: PositiveInt = 96
    """S when the unit is a word (GLoRIA: 97)."""
    min_words: PositiveInt = 2
    """Shorter sentences are dropped (GLoRIA drops one-word sentences)."""
    sentence_sampling: Literal["all", "shuffle", "random_subset"] = "all"
    """Training only: 'all' in order, 'shuffle', or MaCo's random 1 ... n sentences in random order."""
    impression_share: float = Field(0.0, ge=0, le=1)
    """Training only: share of the steps that read the impression alone of reports that have one. It says what is wrong in
    few words, so the text tower finds the words that matter sooner; the other steps read all `sections`."""


class DataConfig(Config):
    """Where the pairs come from."""

    path: str
    """Packed set: a folder or URL (s3://, gs://, https://) made by `msvl data pack`."""
    train_split: str = "train"
    """Split to train on."""
    mix: dict[str, PositiveFloat] = {}
    """Several packed sets to train on, path: weight (shares of the samples that are read; need no certain sum). `path` still
    gives validation, tokenizer and statistics, and is read in training only when it stands here too."""
    epoch_samples: PositiveInt | None = None
    """Samples that are called an epoch; null is what one pass over all sources reads. It changes no order: every source
    passes through epochs of its own."""
    images: Literal["one_per_study", "all"] = "one_per_study"
    """What an epoch reads of a study: one image, another draw each epoch, or all (95 % of real reports would repeat)."""
    lanes: PositiveInt = 64
    """S: parts of an epoch's order that are read side by side. W ranks fit where W / gcd(W, S) is 1, or 2 (bytes are then
    read twice). A run keeps its number."""
    shuffle_window: PositiveInt = 4096
    """Samples of a lane that are shuffled among each other (ours; 64 lanes of 4,096 mix 262,144 samples)."""
    subset: str | None = None
    """List of keys, studies or patients of `path`, as `msvl data subset` writes it: training reads these alone, 1 % or 10 % of the
    split for example. Validation, tokenizer and statistics stay those of the whole."""
    validation_split: str = "val"
    """Split for judgement during training."""
    image_size: PositiveInt = 224
    """Side of the square the model sees, in pixels."""
    target_scale: Literal[1, 2] = 1
    """2 reads training images at twice `image_size`: the encoder sees their 2 x 2 means, the masked autoencoder has to
    predict the fine pixels (MRM and MaCo: 448 from 224); the shards' short side must be that long."""
    augment: AugmentConfig = AugmentConfig()
    report: ReportConfig = ReportConfig()
    token_ids: Literal["stored", "online"] = "stored"
    """Ids of the reports' tokens: made once and kept beside the index (in the user's cache where that cannot be written to),
    or made of each text as it is read. Both give the same; the first saves up to a quarter of the loader's time."""
    workers: int = Field(2, ge=0)
    """Loader processes per rank; 0 reads in the training process (2 keep an epoch of small models fed on a laptop)."""
    max_bad_share: float = Field(0.01, ge=0, le=1)
    """Share of unreadable records above which the run stops; also of records lost in missing and cut shards at its start."""
    remote: RemoteConfig = RemoteConfig()
    """Attempts and time-outs where `path` is a URL."""
    cache: CacheConfig | None = None
    """Where the node keeps what it read from a URL; without one every range is asked of the store."""

    @model_validator(mode="after")
    def _check_mix(self) -> DataConfig:
        if self.subset and self.mix:
            raise ValueError("subset: it names samples of one set; leave mix or subset out")
        total = sum(self.mix.values())
        for path, weight in self.mix.items():
            if weight < 0.001 * total:
                raise ValueError(f"mix: {path} has less than a thousandth of all weights; raise it or leave it out")
        return self

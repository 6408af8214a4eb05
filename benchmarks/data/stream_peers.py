"""Other loaders on the same samples: as users write a webdataset pipeline, and energon and mosaicml-streaming at their best.

The last two get the bare loop's transform and tokeniser, and are told to shuffle as they shuffle in training. They need packages that pip
would replace torch and NumPy for, so they go into an environment of their own that sees msvl's behind its own:

    python -m venv .venv/peers
    python -c "import site; print(site.getsitepackages()[0])" > .venv/peers/lib/python3.11/site-packages/msvl.pth
    .venv/peers/bin/pip install --no-deps megatron-energon==7.4.1 mosaicml-streaming==0.13.0 torchvision==0.28.0 \
        filetype mfusepy multi-storage-client rapidyaml xattr lark wcmatch bracex jsonschema jsonschema-specifications \
        referencing rpds-py deprecation zstd catalogue Brotli python-snappy cramjam
    .venv/peers/bin/python benchmarks/data/stream_speed.py
"""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset

from benchmarks.data.stream_bare import LENGTH, SIZE, FastTokens, FastTransform
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader


def plain_webdataset(packed: PackedSet, batch: int) -> Iterator[Any]:
    """Yield batches as users write them: RGB by Pillow, crop, turn, colours, normalise, transformers' tokenizer.

    The transforms are those of torchvision (its v1 calls these very functions of Pillow), written out: its wheels do not
    load beside every CPU torch.
    """
    from PIL import Image, ImageEnhance
    from transformers import PreTrainedTokenizerFast

    rng = np.random.default_rng(0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(packed.path / "tokenizer" / "tokenizer.json"), pad_token="[PAD]"
    )
    mean, std = torch.tensor([packed.pixel_mean] * 3), torch.tensor([packed.pixel_std] * 3)

    def image(picture: Image.Image) -> torch.Tensor:
        side = round(min(picture.size) * rng.uniform(0.8, 1.0) ** 0.5)
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in picture.size)
        picture = picture.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        picture = picture.rotate(rng.uniform(-5, 5), Image.Resampling.BILINEAR)
        picture = ImageEnhance.Brightness(picture).enhance(rng.uniform(0.8, 1.2))
        picture = ImageEnhance.Contrast(picture).enhance(rng.uniform(0.8, 1.2))
        values = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().div(255)
        return (values - mean[:, None, None]) / std[:, None, None]

    def text(report: dict[str, Any]) -> torch.Tensor:
        return tokenizer(
            report["report"], padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        )["input_ids"][0]

    index = packed.split("train")
    shards = [str(index.shard_path(number)) for number in range(len(index.shards))]
    dataset = (
        webdataset.WebDataset(shards, resampled=True, shardshuffle=False)
        .shuffle(1000)
        .decode("pilrgb")
        .to_tuple("jpg", "json")
        .map_tuple(image, text)
        .batched(batch)
    )
    return iter(dataset)


def energon(packed: PackedSet, batch: int, folder: Path) -> Iterator[Any]:
    """Yield batches of megatron-energon: its savable, shuffled training set."""
    from megatron import energon as library
    from megatron.energon.flavors import BaseWebdatasetFactory

    target = folder / "energon"
    (target / "train").mkdir(parents=True)
    index = packed.split("train")
    for number in range(len(index.shards)):
        (target / "train" / f"shard-{number:06d}.tar").symlink_to(index.shard_path(number).resolve())
    shards = sorted(str(path.relative_to(target)) for path in (target / "train").iterdir())
    BaseWebdatasetFactory.prepare_dataset(target, shards, split_parts_ratio=[("train", 1.0)], workers=1)
    (target / ".nv-meta" / "dataset.yaml").write_text(
        "__module__: megatron.energon\n__class__: CrudeWebdataset\n", encoding="utf-8"
    )
    transform, tokens, rng = _work(packed)

    class Encoder(library.TaskEncoder):
        """Raw bytes to the batch, as the bare loop has them."""

        decoder = None
        cookers = [library.Cooker(library.stateless(_raw))]

        def batch(self, samples: list[Any]) -> tuple[torch.Tensor, ...]:
            return _batch([(item["jpg"], item["json"]) for item in samples], transform, tokens, rng)

    dataset = library.get_train_dataset(
        target,
        batch_size=batch,
        shuffle_buffer_size=1000,
        max_samples_per_sequence=100,
        worker_config=library.WorkerConfig.default_worker_config(0),
        task_encoder=Encoder(),
    )
    return iter(library.get_loader(dataset))


def _raw(sample: dict[str, Any]) -> dict[str, Any]:
    return sample


def mosaic(packed: PackedSet, batch: int, folder: Path) -> Iterator[Any]:
    """Yield batches of mosaicml-streaming: MDS shards of the same bytes, its default shuffle."""
    _torchvision_without_kernels()
    streaming = importlib.import_module("streaming")
    target = folder / "mosaic"
    reader = SampleReader(packed.split("train"))
    with streaming.MDSWriter(out=str(target), columns={"image": "bytes", "text": "str"}) as writer:
        for row in range(len(reader.index)):
            writer.write({"image": reader.image(row), "text": reader.meta(row)["report"]})
    reader.close()
    transform, tokens, rng = _work(packed)
    dataset = streaming.StreamingDataset(local=str(target), shuffle=True, batch_size=batch, num_canonical_nodes=1)

    def collate(samples: list[dict[str, Any]]) -> tuple[torch.Tensor, ...]:
        return _batch([(item["image"], item["text"]) for item in samples], transform, tokens, rng)

    loader = torch.utils.data.DataLoader(dataset, batch_size=batch, collate_fn=collate, drop_last=True)
    while True:
        yield from loader


_OPERATORS: dict[str, Any] = {}


def available(name: str) -> Callable[..., Iterator[Any]] | None:
    """Return the loader of a peer, or None where it is not installed."""
    try:
        if name == "energon":
            importlib.import_module("megatron.energon")
            return energon
        _torchvision_without_kernels()
        importlib.import_module("streaming")
        return mosaic
    except ImportError as error:
        print(f"{name} is left out: {error}", flush=True)
        return None


def _work(packed: PackedSet) -> tuple[FastTransform, FastTokens, np.random.Generator]:
    transform = FastTransform(packed.pixel_mean, packed.pixel_std, floats=True)
    return transform, FastTokens(str(packed.path / "tokenizer" / "tokenizer.json")), np.random.default_rng(0)


def _batch(
    samples: list[tuple[bytes, Any]], transform: FastTransform, tokens: FastTokens, rng: np.random.Generator
) -> tuple[torch.Tensor, ...]:
    images, numbers = transform.images(len(samples)), rng.random((len(samples), 6)).tolist()
    texts = []
    for place, (data, text) in enumerate(samples):
        transform.fill(images[place, 0], data, numbers[place])
        texts.append(_report(text).lower())
    return torch.from_numpy(images), *tokens(texts)


def _report(text: Any) -> str:
    if isinstance(text, bytes):
        text = json.load(io.BytesIO(text))
    return text["report"] if isinstance(text, dict) else text


def _torchvision_without_kernels() -> None:
    """Let torchvision be imported beside a CPU torch: its wheels' kernels need CUDA's libraries; none is used here."""
    if "torchvision" in sys.modules:
        return
    library = _OPERATORS.setdefault(
        "library", torch.library.Library("torchvision", "DEF")
    )  # must live as long as they are named
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

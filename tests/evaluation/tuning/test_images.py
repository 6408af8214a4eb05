"""Training images: every one once per pass, the same for the same seed, masks where the image is."""

from __future__ import annotations

import numpy as np
import pytest

from msvl.data.config import ReportConfig
from msvl.data.evaluation_set import EvaluationSet
from msvl.data.pack import PackOptions, pack
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader
from msvl.evaluation.tuning.images import Cut, TrainingImages, square_mask, unpack_mask
from msvl.evaluation.tuning.subsets import label_subset
from tests.helpers.tiny_source import TinySource


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackedSet:
    folder = tmp_path_factory.mktemp("shards") / "tiny"
    pack(
        TinySource(20),
        folder,
        PackOptions(short_side=48, image_format="png", shard_samples=10),
        workers=1,
        progress=False,
    )
    return PackedSet.open(folder)


def images(packed: PackedSet, cut: Cut, *, seed: int = 0, batch: int = 5, bits: tuple[int, ...] = ()) -> TrainingImages:
    index = packed.split("train")
    rows = np.arange(len(index))
    return TrainingImages(SampleReader(index), list(rows), rows, cut, batch=batch, seed=seed, bits=bits)


CENTRED = Cut(size=48, area=(1.0, 1.0), flip=0.0)


def test_every_image_comes_once_per_pass(packed: PackedSet) -> None:
    count = len(packed.split("train"))
    rows = np.concatenate([batch.rows for batch in images(packed, CENTRED, batch=1).batches(2 * count)])
    assert sorted(rows[:count]) == sorted(rows[count:]) == list(range(count))
    assert rows[:count].tolist() != rows[count:].tolist()


def test_the_seed_alone_decides(packed: PackedSet) -> None:
    cut = Cut(size=32, area=(0.2, 1.0), flip=0.5)
    first, again, other = ([batch.images for batch in images(packed, cut, seed=seed).batches(4)] for seed in (1, 1, 2))
    assert all((one == two).all() for one, two in zip(first, again, strict=True))
    assert not all((one == two).all() for one, two in zip(first, other, strict=True))


def test_without_a_random_cut_it_is_what_judgement_sees(packed: PackedSet) -> None:
    held = EvaluationSet.load(packed, "train", image_size=48, report=ReportConfig())
    batch = next(iter(images(packed, CENTRED).batches(1)))
    assert (batch.images == held.images[batch.rows]).all()


def test_masks_are_cut_and_mirrored_with_the_image(packed: PackedSet) -> None:
    mirrored = Cut(size=48, area=(1.0, 1.0), flip=1.0)
    plain, turned = (next(iter(images(packed, cut, bits=(0,)).batches(1))) for cut in (CENTRED, mirrored))
    assert plain.masks is not None and turned.masks is not None
    assert (turned.masks == plain.masks.flip(-1)).all() and (turned.images == plain.images.flip(-1)).all()
    reader = SampleReader(packed.split("train"))
    own = square_mask(reader, int(plain.rows[0]), 48, (0,))
    assert (plain.masks[0].numpy() == own).all()
    # The mask lies at columns 8 to 24 of an image 64 wide, whose centred square begins at 8.
    assert own[0, 4:12, :16].all() and own.sum() == 8 * 16


def test_no_mask_is_an_empty_one() -> None:
    assert unpack_mask(None, (4, 6), (0, 1)).shape == (2, 4, 6)
    assert not unpack_mask(None, (4, 6), (0, 1)).any()


def test_shares_are_nested_and_keep_patients_whole(packed: PackedSet) -> None:
    train = EvaluationSet.load(packed, "train", image_size=16, report=ReportConfig())
    small, middle, whole = (set(label_subset(train, ratio, 0).tolist()) for ratio in ("10", "50", "100"))
    assert small < middle < whole == set(range(len(train)))
    inside = {train.patients[row] for row in middle}
    assert all(row in middle for row, patient in enumerate(train.patients) if patient in inside)
    assert middle != set(label_subset(train, "50", 1).tolist())

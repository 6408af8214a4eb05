"""The phantom as a source: a pure function of its seed whose annotations agree with each other."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.phantom.findings import sample_findings
from msvl.data.phantom.parameters import FINDINGS, STANDARD, VARIANTS
from msvl.data.phantom.render import STUDY, simulate
from msvl.data.sources.phantom import PhantomSource
from msvl.data.study import Record


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """A few dozen records of both variants."""
    found = []
    for variant in VARIANTS:
        source = PhantomSource(train=40, val=0, test=20, variant=variant)
        found += [source.record(entry) for entry in source.entries()]
    return found


def test_the_same_seed_gives_the_same_record_in_any_order() -> None:
    first, second = PhantomSource(train=6, val=1, test=1), PhantomSource(train=6, val=1, test=1)
    forward = [first.record(entry) for entry in first.entries()]
    backward = [second.record(entry) for entry in reversed(second.entries())][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert (one.report, one.labels, one.boxes, one.extra) == (other.report, other.labels, other.boxes, other.extra)
        assert all((one.masks[name] == other.masks[name]).all() for name in one.masks)


def test_another_seed_draws_another_picture() -> None:
    one, other = (PhantomSource(train=1, val=0, test=0, seed=seed) for seed in (0, 1))
    assert (one.record(one.entries()[0]).image != other.record(other.entries()[0]).image).any()


def test_images_are_grey_squares_with_the_whole_range_used(records: list[Record]) -> None:
    for record in records:
        assert record.image.shape == (224, 224) and record.image.dtype == np.uint8
        assert record.image.std() > 20


def test_labels_masks_and_boxes_agree(records: list[Record]) -> None:
    for record in records:
        assert list(record.labels) == list(FINDINGS)
        for name, label in record.labels.items():
            assert label == int(name in record.masks and bool(record.masks[name].any()))
            assert label == int(any(box.finding == name for box in record.boxes))
        assert record.masks["lungs"].any() and record.masks["heart"].any()


def test_boxes_are_tight_around_their_masks(records: list[Record]) -> None:
    for record in records:
        for name in FINDINGS:
            boxes = [box for box in record.boxes if box.finding == name]
            if not boxes:
                continue
            cover = np.zeros(record.image.shape, dtype=bool)
            for box in boxes:
                cover[int(box.y) : int(box.y + box.h), int(box.x) : int(box.x + box.w)] = True
                inside = record.masks[name][int(box.y) : int(box.y + box.h), int(box.x) : int(box.x + box.w)]
                assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            assert not (record.masks[name] & ~cover).any()


def test_findings_are_large_enough_to_be_seen_at_half_size(records: list[Record]) -> None:
    for record in records:
        for box in record.boxes:
            assert box.w >= 14 and box.h >= 14, box
            if box.finding == "nodule":
                assert 16 <= box.w <= 42 and 16 <= box.h <= 42


def test_left_findings_lie_right_of_right_ones() -> None:
    for patient in range(60):
        drawn = simulate(STANDARD, seed=3, patient=patient, study=0, size=112)
        for finding, region in zip(drawn.findings, drawn.regions, strict=True):
            if finding.side:
                columns, rows = (float(axis.mean()) for axis in np.nonzero(region)[::-1])
                x, _ = drawn.pose.chest((columns, rows))
                assert (x > 0) == (finding.side == "left"), finding


def test_findings_change_the_picture_where_their_mask_is() -> None:
    """Nodules and consolidations are denser, pneumothoraces blacker than the other lung pixels of the same height."""
    contrasts: dict[str, list[float]] = {}
    for patient in range(150):
        drawn = simulate(STANDARD, seed=4, patient=patient, study=0, size=112)
        others = drawn.lungs & ~np.logical_or.reduce([np.zeros_like(drawn.lungs), *drawn.regions])
        for finding, region in zip(drawn.findings, drawn.regions, strict=True):
            rows = region.any(axis=1)[:, None] & others
            if finding.name != "cardiomegaly" and rows.any():
                contrasts.setdefault(finding.name, []).append(
                    float(drawn.image[region].mean()) - float(drawn.image[rows].mean())
                )
    assert np.mean(contrasts["pneumothorax"]) < -15
    for name in ("effusion", "consolidation", "nodule"):
        assert np.percentile(contrasts[name], 10) > 10, name


def test_cardiomegaly_has_the_wider_heart() -> None:
    ratios: dict[bool, list[float]] = {True: [], False: []}
    for patient in range(60):
        drawn = simulate(STANDARD, seed=5, patient=patient, study=0, size=112)
        heart, both = (np.flatnonzero(mask.any(axis=0)) for mask in (drawn.heart, drawn.lungs))
        enlarged = any(finding.name == "cardiomegaly" for finding in drawn.findings)
        ratios[enlarged].append(float(np.ptp(heart) / np.ptp(both)))
    assert min(ratios[True]) > np.percentile(ratios[False], 90)


def test_each_finding_has_sixty_positives_among_the_test_patients() -> None:
    source = PhantomSource()
    patients = [entry.payload[0] for entry in source.entries() if entry.split == "test"]
    assert len(patients) == 600
    counts: Counter[str] = Counter()
    normal = 0
    for patient in patients:
        rng = np.random.Generator(np.random.PCG64([0, STANDARD.code, patient, 0, STUDY]))
        names = {finding.name for finding in sample_findings(rng, STANDARD.findings)}
        counts.update(names)
        normal += not names
    assert min(counts[name] for name in FINDINGS) >= 60
    assert 0.25 <= normal / 600 <= 0.45


def test_splits_have_their_sizes_and_no_patient_in_common() -> None:
    entries = PhantomSource(train=100, val=10, test=20).entries()
    patients = {
        split: {entry.patient for entry in entries if entry.split == split} for split in ("train", "val", "test")
    }
    assert {split: len(found) for split, found in patients.items()} == {"train": 100, "val": 10, "test": 20}
    assert not patients["train"] & (patients["val"] | patients["test"])
    assert len({entry.study for entry in entries}) == len(entries)
    assert all(entry.study.endswith("-0") for entry in entries if entry.split != "train")


def test_test_patients_do_not_depend_on_the_number_of_training_patients() -> None:
    few, many = (
        [entry for entry in PhantomSource(train=train, val=5, test=20).entries() if entry.split == "test"]
        for train in (10, 500)
    )
    assert few == many


def test_about_a_tenth_of_the_training_patients_have_a_second_study() -> None:
    entries = [entry for entry in PhantomSource(train=1000, val=0, test=0).entries()]
    assert 1060 < len(entries) < 1140
    assert len(PhantomSource(train=50, val=0, test=0, studies_per_patient=1.0).entries()) == 50


def test_size_changes_the_picture_but_not_what_it_shows() -> None:
    small, large = (PhantomSource(train=8, val=0, test=0, size=size) for size in (128, 256))
    for entry in small.entries():
        one, other = small.record(entry), large.record(entry)
        assert one.image.shape == (128, 128) and other.image.shape == (256, 256)
        assert one.labels == other.labels


def test_settings_carry_every_option_and_the_digest() -> None:
    settings = PhantomSource(train=3, val=2, test=1, seed=9).settings()
    assert (settings["train"], settings["val"], settings["test"], settings["seed"]) == (3, 2, 1, 9)
    assert len(settings["parameters_digest"]) == 64


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": -1}, "option train is -1"),
        ({"train": 0, "val": 0, "test": 0}, "no patients at all"),
        ({"seed": -2}, "option seed is -2"),
        ({"size": 10}, "between 64 and 1024"),
        ({"variant": "odd"}, "choose one of standard, shifted"),
        ({"studies_per_patient": 3.0}, "a number from 1 to 2"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        PhantomSource(**options)


def test_drawing_is_fast_enough_to_be_part_of_a_test() -> None:
    source = PhantomSource(train=20, val=0, test=0)
    entries = source.entries()
    source.record(entries[0])
    start = time.process_time()
    for entry in entries[:20]:
        source.record(entry)
    assert 20 / (time.process_time() - start) > 20


def test_variants_and_seeds_share_no_patient() -> None:
    sets = [
        {entry.patient for entry in PhantomSource(train=20, val=2, test=4, seed=seed, variant=variant).entries()}
        for seed in (0, 1)
        for variant in ("standard", "shifted")
    ]
    assert sum(map(len, sets)) == len(set().union(*sets))

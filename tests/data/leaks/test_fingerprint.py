"""Copies of an image have nearly its fingerprint, other images do not; the search finds what a plain loop finds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from msvl.data.leaks.confirm import SAME
from msvl.data.leaks.fingerprint import BITS, WITHIN, detail, fingerprint, picture_detail, picture_fingerprint
from msvl.data.leaks.near import find_pairs
from tests.data.leaks.copies import COPIES, pictures


@pytest.fixture(scope="module")
def pool() -> list[np.ndarray]:
    return pictures(60)


def distance(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.unpackbits(first ^ second).sum())


@pytest.mark.evidence("A near-duplicate image is told from another patient's image", how="cpu")
@pytest.mark.parametrize("name", COPIES)
def test_copies_are_near(pool: list[np.ndarray], name: str) -> None:
    for picture in pool[:20]:
        found = distance(picture_fingerprint(picture), picture_fingerprint(COPIES[name](picture)))
        assert min(found, BITS - found) <= WITHIN, name


def test_other_patients_are_far(pool: list[np.ndarray]) -> None:
    prints = [picture_fingerprint(picture) for picture in pool]
    between = [distance(one, other) for place, one in enumerate(prints) for other in prints[:place]]
    assert min(between) > 1.1 * WITHIN
    assert max(between) < BITS - 1.1 * WITHIN


@pytest.mark.parametrize("name", COPIES)
def test_copies_have_the_same_detail(pool: list[np.ndarray], name: str) -> None:
    for picture in pool[:20]:
        found = abs(picture_detail(picture) @ picture_detail(COPIES[name](picture)))
        assert found > 1.15 * SAME, name


def test_other_patients_have_other_detail(pool: list[np.ndarray]) -> None:
    details = np.array([picture_detail(picture) for picture in pool])
    between = np.abs(details @ details.T)[np.triu_indices(len(pool), 1)]
    assert between.max() < 0.8 * SAME
    assert np.allclose((details**2).sum(axis=1), 1, atol=1e-5)


def test_a_stored_image_has_the_fingerprint_of_its_picture(pool: list[np.ndarray]) -> None:
    big = cv2.resize(pool[0], (900, 1000), interpolation=cv2.INTER_CUBIC)
    whole = picture_fingerprint(big)
    for ending in (".jpg", ".png"):
        data = cv2.imencode(ending, big)[1].tobytes()
        assert distance(whole, fingerprint(data)) <= BITS // 16
        assert picture_detail(big) @ detail(data) > 0.9


def test_bits_are_the_signs_of_the_ranks_cosine_transform(pool: list[np.ndarray]) -> None:
    small = cv2.resize(pool[0].astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA).astype(np.float64)
    flat = small.ravel()
    ranks = np.array([((flat < value).sum() + (flat <= value).sum()) / 2 for value in flat]).reshape(64, 64)
    basis = np.cos(np.pi * np.outer(np.arange(64), 2 * np.arange(64) + 1) / 128)
    transform = basis @ ranks @ basis.T
    places = sorted(
        ((row, column) for row in range(64) for column in range(64)),
        key=lambda place: (place[0] ** 2 + place[1] ** 2, 64 * place[0] + place[1]),
    )[9 : 9 + BITS]
    expected = np.array([transform[place] > 0 for place in places])
    found = np.unpackbits(picture_fingerprint(pool[0])).astype(bool)
    assert (expected != found).sum() <= 1, "a coefficient of nearly 0 may have either sign in float32"


def test_an_empty_picture_has_none() -> None:
    empty = np.full((300, 300), 17, dtype=np.uint8)
    assert picture_fingerprint(empty) is None and picture_detail(empty) is None


def test_bytes_that_are_no_image_are_an_error() -> None:
    with pytest.raises(ValueError, match="image"):
        fingerprint(b"no image")
    with pytest.raises(ValueError):
        fingerprint(cv2.imencode(".jpg", pictures(1)[0])[1].tobytes()[:500])


def test_search_finds_what_a_loop_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msvl.data.leaks.near.BLOCK", 7)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (count, 4), dtype=np.uint8) for count in (30, 20))
    second[3], second[4] = first[8], ~first[9]  # a copy, and a negative
    first[5], second[6] = 0, 0  # no fingerprints
    found = find_pairs(first, second, within=8).tolist()
    expected = []
    for row, bits in enumerate(first):
        for column, other in enumerate(second):
            apart = distance(bits, other)
            if bits.any() and other.any() and min(apart, 32 - apart) <= 8:
                expected.append([row, column])
    assert found == expected
    assert [8, 3] in found and [9, 4] in found
    assert find_pairs(first[:0], second, within=8).shape == (0, 2)

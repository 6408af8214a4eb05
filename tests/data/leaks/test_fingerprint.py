"""Copies of an image have nearly its fingerprint, other images do not; the search finds what a plain loop finds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from msvl.data.leaks.fingerprint import BITS, WITHIN, fingerprint, picture_fingerprint
from msvl.data.leaks.near import NONE, find_nearest
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


def test_a_stored_image_has_the_fingerprint_of_its_picture(pool: list[np.ndarray]) -> None:
    big = cv2.resize(pool[0], (900, 1000), interpolation=cv2.INTER_CUBIC)
    whole = picture_fingerprint(big)
    for ending in (".jpg", ".png"):
        data = cv2.imencode(ending, big)[1].tobytes()
        assert distance(whole, fingerprint(data)) <= BITS // 16


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
    assert picture_fingerprint(np.full((300, 300), 17, dtype=np.uint8)) is None


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
    found = find_nearest(first, second, within=8)
    for own, others, distances in ((first, second, found.first), (second, first, found.second)):
        for row, bits in enumerate(own):
            apart = [distance(bits, other) for other in others if other.any()]
            best = min(min(d, 32 - d) for d in apart)
            assert distances[row] == (best if bits.any() and best <= 8 else NONE)
    assert found.second[3] == 0 and found.second[4] == 0

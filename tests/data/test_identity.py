"""Names of samples and what counts as the same text."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np

from msvl.data.identity import image_hash, keyed_hash, normalised_text, stable_id, text_hash


def test_keyed_hashes_need_the_key() -> None:
    assert keyed_hash("patient 17", "a") == keyed_hash("patient 17", "a")
    assert keyed_hash("patient 17", "a") != keyed_hash("patient 17", "b")
    assert keyed_hash("patient 17", "a") != keyed_hash("patient 18", "a")
    assert len(keyed_hash("patient 17", "a")) == 16


def test_stable_ids_are_equal_in_every_process_and_fit_int64() -> None:
    code = "from msvl.data.identity import stable_id; print(stable_id('a report'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == stable_id("a report")
    assert all(0 <= stable_id(str(number)) < 2**63 for number in range(1000))
    assert len({stable_id(str(number)) for number in range(1000)}) == 1000


def test_what_differs_in_writing_only_is_the_same_text() -> None:
    assert text_hash("No acute abnormality.") == text_hash("no  acute\nabnormality ..")
    assert text_hash("Compared to XXXX.") == text_hash("compared to ___")
    assert text_hash("No effusion.") != text_hash("Effusion.")
    assert text_hash("Small left effusion.") != text_hash("Small right effusion.")
    assert normalised_text("A 2-cm nodule,\n right.") == "a 2 cm nodule right"


def test_image_hashes_tell_shape_and_pixels_apart() -> None:
    picture = np.arange(12, dtype=np.uint8)
    assert image_hash(picture.reshape(3, 4)) != image_hash(picture.reshape(4, 3))
    changed = picture.copy()
    changed[5] += 1
    assert image_hash(picture) != image_hash(changed)
    assert image_hash(picture.reshape(3, 4)) == image_hash(np.asfortranarray(picture.reshape(3, 4)))


def test_the_quick_way_to_normalise_gives_what_the_patterns_give() -> None:
    def plainly(report: str) -> str:
        marked = re.sub(r"(x{3,}|_{2,})", " deid ", report.lower())
        return " ".join(re.sub(r"[^\w\s]|_", " ", marked).split())

    rng = np.random.default_rng(0)
    letters = [*map(chr, range(128)), "XXX", "___", "xx", "é", "\u212a", "\u2003", "²"]
    for _ in range(3000):
        text = "".join(rng.choice(letters, rng.integers(0, 12)))
        assert normalised_text(text) == plainly(text)
    every = "".join(map(chr, range(128)))
    assert normalised_text(every) == plainly(every)

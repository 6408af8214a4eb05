"""Names of samples: keyed hashes, so that no source id reaches a shard, a log or a dashboard."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import xxhash

MARKS = re.compile(r"x{3,}|_{2,}")
"""What de-identification leaves in the place of words, in lower-case text: `XXXX` in Open-i, `___` in MIMIC-CXR."""
_NOT_WORD = re.compile(r"[^\w\s]|_")
_ASCII_MARKS = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code).isspace())}


def keyed_hash(value: str, key: str) -> str:
    """Return 16 hex digits that name `value` without telling it to whoever lacks `key`."""
    return hashlib.blake2b(value.encode(), key=hashlib.sha256(key.encode()).digest(), digest_size=8).hexdigest()


def stable_id(text: str) -> int:
    """Return a 63-bit integer that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def normalised_text(report: str) -> str:
    """Lower-case, de-identification marks unified, punctuation removed, white space collapsed."""
    lower = report.lower()
    if lower.isascii() and "xxx" not in lower and "__" not in lower:  # the same, in a fifth of the time
        return " ".join(lower.translate(_ASCII_MARKS).split())
    marked = MARKS.sub(" deid ", lower)
    return " ".join(_NOT_WORD.sub(" ", marked).split())


def text_hash(report: str) -> str:
    """Return 16 hex digits of the normalised text: `abnormality.` and `Abnormality ..` are equal."""
    return hashlib.blake2b(normalised_text(report).encode(), digest_size=8).hexdigest()


def image_hash(image: np.ndarray) -> str:
    """Return 16 hex digits of the pixels and their shape (XXH3: it keeps no secret, and costs a fiftieth of BLAKE2b)."""
    digest = xxhash.xxh3_64(f"{image.shape}{image.dtype}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()

"""Stored DICOM values -> grey values with bright = dense: modality LUT, window or VOI LUT, MONOCHROME1.

An image has at most 65,536 values, so all of it is done once to a table of every value, by pydicom's own functions, and the
pixels are looked up: exact, and as fast as one pass over the image.
"""

from __future__ import annotations

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

DEEPEST = 65535


def windows(dataset: Dataset) -> int:
    """Return how many windows or VOI LUTs the file offers; where it has both, the LUTs count."""
    if dataset.get("VOILUTSequence"):
        return len(dataset.VOILUTSequence)
    counts = [dataset[name].VM if name in dataset else 0 for name in ("WindowCenter", "WindowWidth")]
    return min(counts)


def is_linear(dataset: Dataset, window: int) -> bool:
    """Tell whether grey values grow evenly with stored ones, so that an image may be made smaller before they are looked up."""
    return not dataset.get("ModalityLUTSequence") and not (window and windows(dataset))


def grey_values(patterns: np.ndarray, dataset: Dataset, window: int, *, compressed: bool) -> np.ndarray:
    """Look up the grey values of an image.

    Grey values that are whole numbers from 0 to 65,535 are kept as they are; others (windows, slopes, negative values) are
    stretched to that range by the image's own least and greatest.

    Args:
        patterns: [H, W] uint8 or uint16, bits as they are stored, of signed values too.
        dataset: Holds BitsStored, PixelRepresentation, PhotometricInterpretation and what there is of LUTs and windows.
        window: Which of the file's windows or VOI LUTs to apply, from 1; 0 for none. Files with none stay as they are, and so
            do files of more than 8 bits that hold 8-bit values: their window belongs to the values before.
        compressed: Whether the pixels went through a codec, which then knows their bits better than the header does.

    Returns:
        [H, W] uint8 for values of 8 bits, else uint16.

    Raises:
        ValueError: The file has fewer windows, or its window or a LUT cannot be used.
    """
    greatest = int(patterns.max())
    eight_bit = dataset.BitsStored <= 8 or (dataset.PixelRepresentation == 0 and greatest < 256)
    bits = max(dataset.BitsStored, greatest.bit_length()) if compressed else dataset.BitsStored
    used = _occurring(patterns, dataset, bits)
    stored = _stored_values(used, bits, signed=dataset.PixelRepresentation == 1)
    values = _displayed(stored, dataset, 0 if eight_bit and dataset.BitsStored > 8 else window)
    low, high = float(values.min()), float(values.max())
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = high + low - values
    whole = low >= 0 and high <= DEEPEST and np.array_equal(values, np.rint(values))
    if not whole:
        values = (values - low) * (DEEPEST / ((high - low) or 1.0))
    table = np.zeros(256**patterns.itemsize, dtype=np.uint8 if eight_bit and whole and high < 256 else np.uint16)
    table[used] = np.rint(values)
    if table.dtype == patterns.dtype and np.array_equal(table[used], used):
        return patterns
    return cv2.LUT(patterns, table)


def _occurring(patterns: np.ndarray, dataset: Dataset, bits: int) -> np.ndarray:
    """Return the patterns that occur, in order; where grey values grow with them, all between the least and the greatest."""
    least, greatest, _, _ = cv2.minMaxLoc(patterns)
    luts = dataset.get("ModalityLUTSequence") or dataset.get("VOILUTSequence")
    if not luts and dataset.PixelRepresentation == 0 and greatest < 2**bits:
        return np.arange(int(least), int(greatest) + 1)
    levels = 256**patterns.itemsize
    return np.flatnonzero(cv2.calcHist([patterns], [0], None, [levels], [0, levels]))


def _stored_values(patterns: np.ndarray, bits: int, *, signed: bool) -> np.ndarray:
    """Return the numbers that bit patterns stand for; bits above the stored ones (old overlays) are left out."""
    values = patterns.astype(np.int64) & (2**bits - 1)
    return values - (values >> (bits - 1) << bits) if signed else values


def _displayed(stored: np.ndarray, dataset: Dataset, window: int) -> np.ndarray:
    there = windows(dataset)
    if window > max(there, 1):
        raise ValueError(f"window {window} is asked for and it has {there}: give --window 1, or 0 for none")
    try:
        values = apply_modality_lut(stored, dataset)
        if window and there:
            values = apply_voi_lut(values, dataset, index=window - 1)
    except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise ValueError("its window or a lookup table cannot be used: --window 0 leaves the window out") from error
    return np.asarray(values, dtype=np.float64)

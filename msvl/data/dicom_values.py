"""Stored DICOM values -> grey values with bright = dense: modality LUT, window or VOI LUT, MONOCHROME1.

An image has at most 65,536 values, so all of it is done once to a table of every value, by pydicom's own functions, and the
pixels are looked up: exact, and as fast as one pass over the image.
"""

from __future__ import annotations

import cv2
import numpy as np
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from msvl.data.dicom_header import DicomHeader
from msvl.data.images import to_eight_bit

DEEPEST = 65535


def windows(header: DicomHeader) -> int:
    """Return how many windows or VOI LUTs the file offers; where it has both, the LUTs count."""
    luts = header.luts
    if luts is None:
        return 0
    if luts.get("VOILUTSequence"):
        return len(luts.VOILUTSequence)
    counts = [luts[name].VM if name in luts else 0 for name in ("WindowCenter", "WindowWidth")]
    return min(counts)


def is_linear(header: DicomHeader, window: int) -> bool:
    """Tell whether grey values grow evenly with stored ones, so that an image may be made smaller before they are looked up."""
    return not (header.luts and header.luts.get("ModalityLUTSequence")) and not (window and windows(header))


def grey_values(patterns: np.ndarray, header: DicomHeader, window: int, *, compressed: bool, depth: int) -> np.ndarray:
    """Look up the grey values of an image.

    Grey values that are whole numbers from 0 to 65,535 are kept as they are; others (windows, slopes, negative values) are
    stretched to that range by the image's own least and greatest.

    Args:
        patterns: [H, W] uint8 or uint16, bits as they are stored, of signed values too.
        header: Of the file.
        window: Which of the file's windows or VOI LUTs to apply, from 1; 0 for none. Files with none stay as they are, and so
            do files of more than 8 bits that hold 8-bit values: their window belongs to the values before.
        compressed: Whether the pixels went through a codec, which then knows their bits better than the header does.
        depth: 8 maps deeper values to 8 bits by their range, 16 keeps them.

    Returns:
        [H, W] uint8 for values of 8 bits and with a depth of 8, else uint16.

    Raises:
        ValueError: The file has fewer windows, or its window or a LUT cannot be used.
    """
    least, greatest = (int(value) for value in cv2.minMaxLoc(patterns)[:2])
    stored_bits, signed = header.number("BitsStored"), header.values.get("PixelRepresentation", 0) == 1
    eight_bit = stored_bits <= 8 or (not signed and greatest < 256)
    bits = max(stored_bits, greatest.bit_length()) if compressed else stored_bits
    window = 0 if eight_bit and stored_bits > 8 else window
    inverted = header.values["PhotometricInterpretation"] == "MONOCHROME1"
    if header.luts is None and not signed and greatest < 2**bits and window <= 1:  # as they are, or turned round
        keep = eight_bit and greatest < 256
        return _plain(patterns, least, greatest, inverted=inverted, narrow=keep or depth == 8, keep=keep)
    used = _occurring(patterns, header, bits, least, greatest)
    values = _displayed(_stored_values(used, bits, signed=signed), header, window)
    low, high = float(values.min()), float(values.max())
    if inverted:
        values = high + low - values
    whole = low >= 0 and high <= DEEPEST and np.array_equal(values, np.rint(values))
    if not whole:
        values = (values - low) * (DEEPEST / ((high - low) or 1.0))
    narrow = eight_bit and whole and high < 256
    greys = np.rint(values).astype(np.uint8 if narrow else np.uint16)
    if depth == 8 and not narrow:
        greys = to_eight_bit(greys[None])[0]
    table = np.zeros(256**patterns.itemsize, greys.dtype)
    table[used] = greys
    return cv2.LUT(patterns, table)


def _plain(patterns: np.ndarray, least: int, greatest: int, *, inverted: bool, narrow: bool, keep: bool) -> np.ndarray:
    """Return the grey values of a file without anything to look up, in one pass.

    Args:
        patterns: [H, W].
        least: Of them.
        greatest: Of them.
        inverted: Whether large values are dark.
        narrow: Whether to return 8 bits.
        keep: Whether values are 8-bit ones already, and not stretched.
    """
    if narrow:
        scale = 1.0 if keep else 255.0 / max(greatest - least, 1)
        if keep and not inverted and patterns.dtype == np.uint8:
            return patterns
        if inverted:
            offset = (greatest + least if keep else greatest) * scale
            return cv2.convertScaleAbs(patterns, alpha=-scale, beta=offset)
        return cv2.convertScaleAbs(patterns, alpha=scale, beta=0 if keep else -least * scale)
    # Unsigned numbers wrap around twice: their sum is at most 65,535 apart from each value.
    return np.subtract(np.uint16((greatest + least) % 2**16), patterns) if inverted else patterns


def _occurring(patterns: np.ndarray, header: DicomHeader, bits: int, least: int, greatest: int) -> np.ndarray:
    """Return the patterns that occur, in order; where grey values grow with them, all between the least and the greatest."""
    tables = header.luts and (header.luts.get("ModalityLUTSequence") or header.luts.get("VOILUTSequence"))
    if not tables and header.values.get("PixelRepresentation", 0) == 0 and greatest < 2**bits:
        return np.arange(least, greatest + 1)
    levels = 256**patterns.itemsize
    return np.flatnonzero(cv2.calcHist([patterns], [0], None, [levels], [0, levels]))


def _stored_values(patterns: np.ndarray, bits: int, *, signed: bool) -> np.ndarray:
    """Return the numbers that bit patterns stand for; bits above the stored ones (old overlays) are left out."""
    values = patterns.astype(np.int64) & (2**bits - 1)
    return values - (values >> (bits - 1) << bits) if signed else values


def _displayed(stored: np.ndarray, header: DicomHeader, window: int) -> np.ndarray:
    there = windows(header)
    if window > max(there, 1):
        raise ValueError(f"window {window} is asked for and it has {there}: give --window 1, or 0 for none")
    if header.luts is None:
        return stored.astype(np.float64)
    try:
        values = apply_modality_lut(stored, header.luts)
        if window and there:
            values = apply_voi_lut(values, header.luts, index=window - 1)
    except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise ValueError("its window or a lookup table cannot be used: --window 0 leaves the window out") from error
    return np.asarray(values, dtype=np.float64)

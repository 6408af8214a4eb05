"""DICOM files of made-up images, in every transfer syntax that radiographs come in."""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from pydicom import Dataset, FileMetaDataset, dcmwrite, uid
from pydicom.encaps import encapsulate

Encode = Callable[[np.ndarray, int], bytes | bytearray]
ENCODERS: dict[str, Encode] = {
    uid.JPEGBaseline8Bit: lambda image, bits: imagecodecs.jpeg8_encode(image, level=95),
    uid.JPEGExtended12Bit: lambda image, bits: imagecodecs.jpeg8_encode(image, level=98, bitspersample=12),
    uid.JPEGLossless: lambda image, bits: imagecodecs.jpeg8_encode(
        image, lossless=True, predictor=4, bitspersample=bits
    ),
    uid.JPEGLosslessSV1: lambda image, bits: imagecodecs.jpeg8_encode(
        image, lossless=True, predictor=1, bitspersample=bits
    ),
    uid.JPEGLSLossless: lambda image, bits: imagecodecs.jpegls_encode(image),
    uid.JPEGLSNearLossless: lambda image, bits: imagecodecs.jpegls_encode(image, level=2),
    uid.JPEG2000Lossless: lambda image, bits: imagecodecs.jpeg2k_encode(
        image, level=0, codecformat="j2k", reversible=True, bitspersample=bits
    ),
    uid.JPEG2000: lambda image, bits: imagecodecs.jpeg2k_encode(image, level=60, codecformat="j2k", bitspersample=bits),
}
"""Transfer syntax -> encoder of unsigned pixels with so many bits stored."""


def write_dicom(path: Path, image: np.ndarray, **options: Any) -> None:
    """Write a file, folders included, compressed by gzip where its name ends in .gz; options are those of `encode_dicom`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = encode_dicom(image, **options)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def encode_dicom(
    image: np.ndarray, *, bits: int, syntax: str = uid.ExplicitVRLittleEndian, preamble: bool = True, **tags: Any
) -> bytes:
    """Return a DICOM file with a header of pixels and nothing else.

    Args:
        image: [H, W] uint8, uint16 or int16, as it is stored.
        bits: Bits stored.
        syntax: Transfer syntax.
        preamble: Whether the file begins as the standard wants; without, it holds the bare data set.
        tags: Further elements by keyword; None removes one that would be there.
    """
    dataset = Dataset()
    dataset.Rows, dataset.Columns = image.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * image.dtype.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(image.dtype.kind == "i")
    _set_pixels(dataset, image, bits, syntax)
    with warnings.catch_warnings():
        # Data sets have values that the standard forbids, such as ages without their Y.
        warnings.simplefilter("ignore")
        for name, value in tags.items():
            setattr(dataset, name, value)
            if value is None:
                del dataset[name]
        return _written(dataset, syntax, preamble=preamble)


def _written(dataset: Dataset, syntax: str, *, preamble: bool) -> bytes:
    stream = io.BytesIO()
    if preamble:
        dcmwrite(stream, dataset, enforce_file_format=True)
        return stream.getvalue()
    del dataset.file_meta
    dcmwrite(stream, dataset, implicit_vr=syntax == uid.ImplicitVRLittleEndian, little_endian=True)
    return stream.getvalue()


def _set_pixels(dataset: Dataset, image: np.ndarray, bits: int, syntax: str) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID("1.2.3.4")
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    if syntax in ENCODERS:
        patterns = (image.astype(np.int64) & (2**bits - 1)).astype(f"u{image.dtype.itemsize}")
        dataset.PixelData = encapsulate([bytes(ENCODERS[syntax](patterns, bits))])
        dataset["PixelData"].VR = "OB"
        return
    dataset.PixelData = image.astype(image.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax == uid.RLELossless:
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        dataset.compress(uid.RLELossless, generate_instance_uid=False)

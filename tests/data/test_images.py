"""Radiographs from files to the model's square."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from msvl.config.errors import DataError
from msvl.data.config import AugmentConfig
from msvl.data.images import (
    DRAWS,
    decode_jpeg,
    encode_jpeg,
    evaluation_image,
    read_image,
    shrink,
    to_eight_bit,
    training_image,
)

EXIF_ORIENTATION = 0x0112
TURNED_BY_90_DEGREES = 6


def radiograph(height: int, width: int) -> np.ndarray:
    """Return a smooth picture with an edge and a bright spot, so that no two quarters are alike."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    picture = 90 + 60 * np.sin(3 * x / width) * np.cos(2 * y / height) + 50 * (x > 0.7 * width)
    picture += 60 * np.exp(-((x - 0.2 * width) ** 2 + (y - 0.3 * height) ** 2) / (0.05 * width) ** 2)
    return np.clip(picture, 0, 255).astype(np.uint8)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((one.astype(np.float64) - other) ** 2).mean()))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture, exif = radiograph(60, 100), Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED_BY_90_DEGREES
    Image.fromarray(picture).save(tmp_path / "turned.jpg", quality=100, exif=exif)
    found = read_image(tmp_path / "turned.jpg", "row 1")
    assert found.shape == (100, 60)
    assert psnr(found, np.rot90(picture, -1)) > 40


def test_colour_and_alpha_become_grey(tmp_path: Path) -> None:
    picture = radiograph(40, 50)
    colour = np.dstack([picture, picture, picture, np.full_like(picture, 255)])
    Image.fromarray(colour, "RGBA").save(tmp_path / "colour.png")
    assert np.array_equal(read_image(tmp_path / "colour.png", "row 1"), picture)


def test_twelve_bits_in_a_sixteen_bit_file_are_not_black(tmp_path: Path) -> None:
    deep = radiograph(40, 50).astype(np.uint16) * 16  # at most 4,080 of 65,535
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    found = read_image(tmp_path / "deep.png", "row 1")
    assert found.dtype == np.uint16
    shallow = to_eight_bit(found)
    expected = (deep.astype(np.float64) - deep.min()) * 255 / (deep.max() - deep.min())
    assert shallow.dtype == np.uint8
    assert np.abs(shallow - expected).max() <= 0.51


def test_a_constant_sixteen_bit_image_does_not_divide_by_zero() -> None:
    assert to_eight_bit(np.full((3, 3), 700, dtype=np.uint16)).max() == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such image file"), (b"", "empty, cut short or no image"), (b"<html>", "no image that can")],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=f"table.csv row 7: .*{message}"):
        read_image(tmp_path / "a.png", "table.csv row 7")


def test_shrinking_keeps_the_aspect_and_never_enlarges() -> None:
    assert shrink(radiograph(400, 800), 100).shape == (100, 200)
    assert shrink(radiograph(90, 300), 100).shape == (90, 300)


def test_decoding_at_half_size_equals_decoding_whole_and_averaging() -> None:
    data = encode_jpeg(radiograph(512, 608))
    half = decode_jpeg(data, at_least=224)
    averaged = cv2.resize(decode_jpeg(data), (304, 256), interpolation=cv2.INTER_AREA)
    assert half.shape == (256, 304)
    assert psnr(half, averaged) >= 46
    assert decode_jpeg(data, at_least=300).shape == (512, 608)


def test_the_evaluation_square_is_the_centre() -> None:
    picture = radiograph(128, 192)
    data = encode_jpeg(picture)
    expected = cv2.resize(picture[:, 32:160], (64, 64), interpolation=cv2.INTER_AREA)
    assert psnr(evaluation_image(data, 64), expected) > 35
    assert psnr(evaluation_image(data, 128), picture[:, 32:160]) > 35


def augmented(data: bytes, augment: AugmentConfig, seed: int) -> np.ndarray:
    out = np.zeros((64, 64), np.uint8)
    training_image(data, augment, np.random.default_rng(seed).random(DRAWS).tolist(), out)
    return out


def test_training_images_depend_on_the_numbers_alone_and_show_the_same_chest() -> None:
    data = encode_jpeg(radiograph(256, 256))
    augment = AugmentConfig(enabled=True, scale=(0.9, 1.0), rotation_degrees=3.0)
    first = augmented(data, augment, 5)
    assert np.array_equal(first, augmented(data, augment, 5))
    assert not np.array_equal(first, augmented(data, augment, 6))
    correlation = np.corrcoef(first.ravel(), evaluation_image(data, 64).ravel())[0, 1]
    assert correlation > 0.8
    mirrored = np.corrcoef(first[:, ::-1].ravel(), evaluation_image(data, 64).ravel())[0, 1]
    assert mirrored < correlation - 0.3, "sides must survive: a mirrored chest contradicts its report"


def test_images_are_mirrored_where_that_is_asked_for() -> None:
    data = encode_jpeg(radiograph(256, 300))
    plain = [augmented(data, AugmentConfig(), seed).astype(int) for seed in range(40)]
    some = [augmented(data, AugmentConfig(flip_share=0.5), seed).astype(int) for seed in range(40)]
    mirrored = [np.abs(one - other[:, ::-1]).max() <= 2 for one, other in zip(plain, some, strict=True)]
    same = [np.array_equal(one, other) for one, other in zip(plain, some, strict=True)]
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    assert 10 <= sum(mirrored) <= 30


def test_without_augmentation_training_sees_the_evaluation_image() -> None:
    data = encode_jpeg(radiograph(100, 120))
    plain = augmented(data, AugmentConfig(enabled=False), 0)
    assert np.array_equal(plain, evaluation_image(data, 64))


def test_a_header_of_too_many_pixels_is_named(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(content)
    with pytest.raises(DataError, match="row 7: its image cannot be decoded"):
        read_image(tmp_path / "huge.png", "row 7")

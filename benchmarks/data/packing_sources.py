"""Packing rate of every official source, and of every transfer syntax of DICOM, against the best codec alone.

    python benchmarks/data/packing_sources.py               about five minutes on a free core
    python benchmarks/data/packing_sources.py --rounds 1    a look

The sources are miniatures (`msvl data miniature`) whose images are enlarged to the usual size of the data set, with noise. The codec
alone reads a file, decodes it by the fastest library here, maps it to 8 bits by its range, shrinks it to 512 px and encodes
it; where the pixels lie in a DICOM file it knows beforehand. Packing does that by way of the source, with windows, masks, boxes,
report, hashes, tar, index and checksums. Both run in one process and take turns; figures are images per CPU second, medians over
rounds, ratios paired. `best_over_best` compares the fastest round of each, which a busy machine disturbs least.

The images are packed again and again until a round takes SECONDS, planning included: so what a shard costs (3 ms: files put on the disk,
a record of what is finished) counts for a few hundred records, and not for as few as a miniature has. A real shard has thousands.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2  # noqa: E402
import imagecodecs  # noqa: E402
import numpy as np  # noqa: E402
import pydicom  # noqa: E402
import simplejpeg  # noqa: E402
from pydicom import uid  # noqa: E402
from pydicom.encaps import generate_frames  # noqa: E402

from benchmarks.measuring import machine, write_csv  # noqa: E402
from msvl.data.dicom_codecs import JPEG_FAMILY  # noqa: E402
from msvl.data.image_files import Decoding, is_dicom  # noqa: E402
from msvl.data.pack import pack_units  # noqa: E402
from msvl.data.pack_options import PackOptions  # noqa: E402
from msvl.data.pack_plan import plan  # noqa: E402
from msvl.data.partial import UNITS  # noqa: E402
from msvl.data.phantom.miniatures import MINIATURES  # noqa: E402
from msvl.data.phantom.miniatures.dicom_files import write_dicom  # noqa: E402
from msvl.data.phantom.miniatures.material import MiniatureStudy, draw_studies  # noqa: E402
from msvl.data.sources.table import TableColumns, TableSource  # noqa: E402
from msvl.data.study import Entry, Source  # noqa: E402
from tests.helpers.miniatures import source_from  # noqa: E402

SHORT_SIDE = 512
SECONDS = 1.0
"""Of the codec alone, in a round."""
SIZES = {
    "mimic-cxr-jpg": (3056, 2544, 12),
    "rexgradient": (762, 620, 60),
    "ms-cxr": (3056, 2544, 12),
    "chexpert": (390, 320, 120),
    "chexpert-plus": (2320, 2828, 10),
    "rsna-pneumonia": (1024, 1024, 40),
    "siim-acr": (1024, 1024, 40),
    "nih-chestxray14": (1024, 1024, 40),
    "mimic-cxr": (3056, 2544, 8),
    "iu-xray": (2048, 2496, 10),
    "padchest": (2500, 2048, 10),
    "vindr-cxr": (2800, 2300, 8),
}
"""Source -> rows, columns, patients."""
SYNTAXES = (
    uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGExtended12Bit, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless,
)  # fmt: skip


def enlarged(study: MiniatureStudy, height: int, width: int, rng: np.random.Generator) -> MiniatureStudy:
    """Return the study at the size of the data set, boxes included."""
    down, across = height / study.frontal.shape[0], width / study.frontal.shape[1]
    picture = cv2.resize(study.frontal, (width, height), interpolation=cv2.INTER_CUBIC)
    boxes = tuple(
        replace(box, x=box.x * across, y=box.y * down, w=box.w * across, h=box.h * down) for box in study.boxes
    )
    noisy = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    return replace(study, frontal=noisy, boxes=boxes)


def miniature(name: str, folder: Path) -> tuple[Source, list[Path]]:
    """Write a miniature of real size; return its source and the files that packing reads."""
    height, width, patients = SIZES[name]
    rng = np.random.default_rng(0)
    drawn = draw_studies(train=patients, val=1, test=6, size=256)  # NIH has boxes on its test images only
    module = importlib.import_module(MINIATURES[name])
    module.write(folder, [enlarged(study, height, width, rng) for study in drawn])
    words = module.pack_words(folder)
    source = source_from([*words, "--short-side", str(SHORT_SIDE)])
    root = Path(words[words.index("--images") + 1])
    return source, [image_file(name, root, entry) for entry in source.entries()]


def image_file(name: str, root: Path, entry: Entry) -> Path:
    """Return the file that an entry stands for."""
    payload = entry.payload
    if name == "vindr-cxr":
        return root / payload["folder"] / f"{entry.image}.dicom"
    below = payload if isinstance(payload, str) else payload["path"]
    if name == "padchest":
        return root / "images" / below
    path = root / (below.replace(".jpg", ".dcm") if name == "mimic-cxr" else below)
    return path if path.is_file() else path.with_suffix(".dcm.gz")


def dicom_set(syntax: uid.UID, folder: Path, images: int) -> tuple[Source, list[Path]]:
    """Write 12-bit MONOCHROME1 files of 2500 x 2048 px with a table; return their source and the files."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(draw_studies(train=1, val=0, test=0, size=256)[0].frontal, (2048, 2500)).astype(np.float64)
    rows = ["image,report,patient"]
    for number in range(images):
        stored = np.clip(picture * 15 + rng.normal(0, 30, picture.shape), 0, 4095).astype(np.uint16)
        write_dicom(folder / f"{number}.dcm", stored, bits=12, syntax=syntax, PhotometricInterpretation="MONOCHROME1")
        rows.append(f"{number}.dcm,The lungs are clear in radiograph {number}.,p{number}")
    (folder / "reports.csv").write_text("\n".join(rows))
    source = TableSource(
        folder, folder / "reports.csv", TableColumns(patient="patient"), decoding=Decoding(at_least=SHORT_SIDE, depth=8)
    )
    return source, [folder / f"{number}.dcm" for number in range(images)]


@dataclass(frozen=True)
class Frame:
    """Where the pixels of a DICOM file lie, found beforehand: nothing of its header is read in what is timed."""

    begin: int
    length: int
    syntax: uid.UID
    shape: tuple[int, int]
    depth: int


def frame_of(path: Path) -> Frame | None:
    """Find the pixels of a DICOM file; None for another one."""
    if not is_dicom(path):
        return None
    data = content(path)
    dataset = pydicom.dcmread(io.BytesIO(data))
    syntax = dataset.file_meta.TransferSyntaxUID
    pixels = next(generate_frames(dataset.PixelData, number_of_frames=1)) if syntax.is_compressed else dataset.PixelData
    return Frame(data.index(pixels), len(pixels), syntax, (dataset.Rows, dataset.Columns), dataset.BitsAllocated)


def content(path: Path) -> bytes:
    """Read a file."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def codec(path: Path, frame: Frame | None) -> int:
    """Read, decode, map to 8 bits, shrink, encode; return the bytes."""
    image = decode(np.fromfile(path, np.uint8)) if frame is None else decode_dicom(path, frame)
    if image.dtype != np.uint8:
        low, high, _, _ = cv2.minMaxLoc(image)
        scale = 255 / max(high - low, 1)
        image = cv2.convertScaleAbs(image, alpha=scale, beta=-low * scale)
    scale = min(1.0, SHORT_SIDE / min(image.shape))
    if scale < 1:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return len(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def decode(data: np.ndarray) -> np.ndarray:
    """Decode PNG whole, and JPEG at the smallest size of at least SHORT_SIDE."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return cv2.imdecode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    flags = cv2.IMREAD_GRAYSCALE
    for factor, reduced in ((2, cv2.IMREAD_REDUCED_GRAYSCALE_2), (4, cv2.IMREAD_REDUCED_GRAYSCALE_4)):
        if min(height, width) >= factor * SHORT_SIDE:
            flags = reduced
    return cv2.imdecode(data, flags)


def decode_dicom(path: Path, frame: Frame) -> np.ndarray:
    """Decode the pixels of a file by the codec of its syntax, without any LUT."""
    data, kind = content(path), f"<u{frame.depth // 8}"
    if not frame.syntax.is_compressed:
        return np.frombuffer(data, kind, frame.shape[0] * frame.shape[1], frame.begin).reshape(frame.shape)
    if frame.syntax == uid.JPEGBaseline8Bit:
        return decode(np.frombuffer(data, np.uint8, frame.length, frame.begin))
    pixels = data[frame.begin : frame.begin + frame.length]
    if frame.syntax == uid.RLELossless:
        return np.frombuffer(imagecodecs.dicomrle_decode(pixels, kind), kind).reshape(frame.shape)
    return getattr(imagecodecs, JPEG_FAMILY[frame.syntax])(pixels)


def pack_again(source: Source, times: int) -> None:
    """List, plan and pack so many times, into one set of shards; the manifest is left out."""
    options = PackOptions(short_side=SHORT_SIDE)
    for _ in range(times):
        units = plan(source, options)
    units = [replace(unit, jobs=unit.jobs * times) for unit in units]
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / UNITS).mkdir()
        pack_units(source, units, Path(name), options, max_dropped_share=0.0, workers=1, progress=False)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(name: str, source: Source, files: list[Path], rounds: int) -> dict[str, object]:
    """Time both in turns; the first round warms up and does not count."""
    frames = [frame_of(file) for file in files]
    times = max(1, round(SECONDS / cpu_seconds(lambda: list(map(codec, files, frames)))))
    images = len(files) * times
    found = [
        (
            cpu_seconds(lambda: list(map(codec, files * times, frames * times))),
            cpu_seconds(lambda: pack_again(source, times)),
        )
        for _ in range(rounds + 1)
    ][1:]
    ratios = [alone / packed for alone, packed in found]
    alone, packed = (statistics.median(column) for column in zip(*found, strict=True))
    row = {
        "source": name,
        "images": len(files),
        "times": times,
        "megabytes": round(sum(file.stat().st_size for file in files) / len(files) / 1e6, 2),
        "codec_per_cpu_second": round(images / alone, 1),
        "packing_per_cpu_second": round(images / packed, 1),
        "milliseconds_more": round(1000 * (packed - alone) / images, 2),
        "packing_over_codec": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
        "best_over_best": round(min(alone for alone, _ in found) / min(packed for _, packed in found), 3),
    }
    print(row, flush=True)
    return row


def main() -> None:
    """Measure and write benchmarks/results/packing_sources-DATE.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=8, help="of every transfer syntax (default: %(default)s)")
    parser.add_argument("--only", nargs="*", help="these sources or syntaxes only, and write nothing")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for name in SIZES:
        if not arguments.only or name in arguments.only:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(name, *miniature(name, Path(folder)), arguments.rounds))
    for syntax in SYNTAXES:
        if not arguments.only or syntax.keyword in arguments.only:
            with tempfile.TemporaryDirectory() as folder:
                source, files = dicom_set(syntax, Path(folder), arguments.images)
                rows.append(measure(f"table, DICOM {syntax.keyword}", source, files, arguments.rounds))
    if not arguments.only:
        remark = f"{machine()}; one process, {arguments.rounds} rounds; python benchmarks/data/packing_sources.py"
        print(write_csv("packing_sources", rows, remark))


if __name__ == "__main__":
    main()

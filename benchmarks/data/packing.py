"""Packing against the codec alone: images per CPU second on one core, and how both scale with processes.

    python benchmarks/data/packing.py --images 240 --rounds 9       about six minutes on two free cores
    python benchmarks/data/packing.py --images 60 --rounds 3        a look

The source is a table of JPEGs of 2000 x 2430 px, enlarged from the real radiographs of a folder, with a little noise.
The codec alone reads a file, decodes it at half size, shrinks it to 512 px and encodes it, by OpenCV, the fastest way of
`../shared/guides/stream-baselines.md` section 4. Packing does that and the report, hashes, tar, index and checksums besides.

CPU seconds are those of all processes, without the start of workers; the two take turns within each round, and ratios are
paired. With several processes it is wall seconds, the start of the workers left out of both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from msvl.data.image_files import Decoding  # noqa: E402
from msvl.data.pack import pack_units  # noqa: E402
from msvl.data.pack_options import PackOptions  # noqa: E402
from msvl.data.pack_plan import plan  # noqa: E402
from msvl.data.partial import UNITS  # noqa: E402
from msvl.data.sources.table import TableColumns, TableSource  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "packing.json"
REAL = ROOT.parent / "shared" / "data" / "covid-cxr" / "images"
HEIGHT, WIDTH, SHORT_SIDE = 2430, 2000, 512
SENTENCES = (
    "The heart is normal in size.", "There is no pleural effusion or pneumothorax.", "The lungs are clear.",
    "Mild degenerative changes of the thoracic spine.", "The mediastinal contours are stable.",
    "A nodular opacity projects over the right upper lobe.", "No acute osseous abnormality is seen.",
)  # fmt: skip


def make_source(folder: Path, images: int, radiographs: Path) -> TableSource:
    """Write the JPEGs and the table; texts have 60 words or so."""
    rng = np.random.default_rng(0)
    found = sorted(radiographs.glob("*"))[:12] if radiographs.is_dir() else []
    pictures = [p for p in (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in found) if p is not None]
    if not pictures:
        raise SystemExit(f"no radiographs in {radiographs}: see docs/data.md for where they come from")
    rows = ["image,report,patient"]
    for number in range(images):
        picture = cv2.resize(pictures[number % len(pictures)], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        noisy = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])
        text = " ".join(SENTENCES[i] for i in rng.permutation(len(SENTENCES)))
        rows.append(f'{number}.jpg,"FINDINGS: {text} IMPRESSION: Report {number} is normal.",p{number}')
    (folder / "reports.csv").write_text("\n".join(rows))
    return TableSource(
        folder, folder / "reports.csv", TableColumns(patient="patient"), decoding=Decoding(at_least=SHORT_SIDE, depth=8)
    )


def codec(path: str) -> int:
    """Read, decode at half size, shrink, encode; return the bytes."""
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_2)
    scale = SHORT_SIDE / min(image.shape)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return len(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def start() -> None:
    """Prepare a process of the codec loop."""
    cv2.setNumThreads(1)


def pack_once(source: TableSource, options: PackOptions, workers: int) -> None:
    """Pack everything but the manifest."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        (Path(name) / UNITS).mkdir()
        units = plan(source, options)
        pack_units(source, units, Path(name), options, max_dropped_share=0.0, workers=workers, progress=False)


def one_core(source: TableSource, files: list[str], options: PackOptions, rounds: int) -> dict[str, list[float]]:
    """Return images per CPU second of both, by round."""
    found: dict[str, list[float]] = {"codec": [], "packing": []}
    start()
    for _ in range(rounds):
        for name in found:
            began = time.process_time()
            if name == "codec":
                for file in files:
                    codec(file)
            else:
                pack_once(source, options, workers=1)
            found[name].append(len(files) / (time.process_time() - began))
    return found


def scaling(
    source: TableSource, files: list[str], options: PackOptions, rounds: int, workers: int
) -> dict[str, list[float]]:
    """Return images per wall second with `workers` processes of both, by round; the start of the processes is taken off."""
    found: dict[str, list[float]] = {"codec": [], "packing": []}
    context = multiprocessing.get_context("spawn")
    for _ in range(rounds):
        with ProcessPoolExecutor(workers, context, start) as pool:
            list(pool.map(codec, files[:workers]))
            began = time.perf_counter()
            list(pool.map(codec, files, chunksize=8))
            found["codec"].append(len(files) / (time.perf_counter() - began))
        found["packing"].append(_packing_rate(source, len(files), options, workers))
    return found


def _packing_rate(source: TableSource, images: int, options: PackOptions, workers: int) -> float:
    """Return images per second between the first and the last unit, when all processes have started."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / UNITS).mkdir()
        pack_units(
            source, plan(source, options), Path(name), options, max_dropped_share=0.0, workers=workers, progress=False
        )
        times = sorted(path.stat().st_mtime for path in (Path(name) / UNITS).glob("*.json"))
    return images * (len(times) - 1) / len(times) / (times[-1] - times[0])


def quartiles(values: list[float]) -> list[float]:
    """Return first quartile, median and third quartile."""
    return [round(float(value), 3) for value in np.percentile(values, [25, 50, 75])]


def main() -> None:
    """Measure and write benchmarks/results/packing.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--radiographs", type=Path, default=REAL, help="folder of images (default: %(default)s)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        source = make_source(folder, arguments.images, arguments.radiographs)
        files = [str(folder / f"{number}.jpg") for number in range(arguments.images)]
        options = PackOptions(short_side=SHORT_SIDE, val_share=0, test_share=0)
        single = one_core(source, files, options, arguments.rounds)
        # The rate is read off the times of the shards, so that there must be several.
        small = replace(options, shard_samples=max(8, arguments.images // 15))
        several = scaling(source, files, small, max(3, arguments.rounds // 3), arguments.workers)
    finally:
        shutil.rmtree(folder)
    content = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python benchmarks/data/packing.py --images {arguments.images} --rounds {arguments.rounds}",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, OpenCV {cv2.__version__}",
        "images": arguments.images,
        "rounds": arguments.rounds,
        "images_per_cpu_second": {name: quartiles(values) for name, values in single.items()},
        "packing_over_codec": quartiles([p / c for p, c in zip(single["packing"], single["codec"], strict=True)]),
        "workers": arguments.workers,
        "images_per_second_with_workers": {name: quartiles(values) for name, values in several.items()},
        "scaling": {
            name: round(float(np.median(several[name]) / np.median(single[name])), 3) for name in ("codec", "packing")
        },
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()

"""How far copies of a radiograph are from it, and other radiographs, in bits of the fingerprint and in detail; time for 100,000 images.

    python benchmarks/data/near_duplicates.py                  about five minutes on two free cores
    python benchmarks/data/near_duplicates.py --phantoms 300 --images 2000 --compare 10000      a look

Distances: phantoms of as many patients, and the real radiographs of the COVID-19 collection beside the checkout, each against
its copies and against all others. Time: reading, hashing and fingerprinting a packed set of JPEGs of 512 px short side with two
processes, and comparing 100,000 fingerprints with 100,000 others on two threads.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from msvl.data.leaks.confirm import SAME  # noqa: E402
from msvl.data.leaks.fingerprint import BITS, BYTES, WITHIN, picture_detail, picture_fingerprint  # noqa: E402
from msvl.data.leaks.near import find_pairs  # noqa: E402
from msvl.data.leaks.set_prints import prints_of  # noqa: E402
from msvl.data.pack import pack  # noqa: E402
from msvl.data.pack_options import PackOptions  # noqa: E402
from msvl.data.packed import PackedSet  # noqa: E402
from msvl.data.sources.table import TableColumns, TableSource  # noqa: E402
from tests.data.leaks.copies import COPIES, pictures, resized  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "near_duplicates.json"
REAL = ROOT.parent / "shared" / "data" / "covid-cxr"
MORE = {
    **COPIES,
    "local equalisation (CLAHE)": lambda picture: cv2.createCLAHE(2.0, (8, 8)).apply(picture),
    "cropped by 1 %": lambda picture: cropped(picture, 0.01),
    "cropped by 2 %": lambda picture: cropped(picture, 0.02),
    "squashed to a square": lambda picture: resized(picture, 256),
    "mirrored": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
}


def cropped(picture: np.ndarray, share: float) -> np.ndarray:
    """Cut a share of the height and width from every edge."""
    down, across = round(share * picture.shape[0]), round(share * picture.shape[1])
    return picture[down : picture.shape[0] - down, across : picture.shape[1] - across]


def distances(images: Sequence[np.ndarray], patients: Sequence[str], copies_of: int) -> dict[str, Any]:
    """Return shares of bits that differ, and correlations of detail: between images, and between images and their copies."""
    prints = np.array([picture_fingerprint(image) for image in images])
    signs = np.unpackbits(prints, axis=1).astype(np.float32) * 2 - 1
    apart = (BITS - np.abs(signs @ signs.T)) / 2 / BITS
    one, other = np.triu_indices(len(images), 1)
    same = np.array(patients)[one] == np.array(patients)[other]
    between = apart[one, other]
    details = np.array([picture_detail(image) for image in images])
    alike = np.abs(details @ details.T)[one, other]
    copies = {}
    for name, copy in MORE.items():
        found = np.array(
            [
                np.unpackbits(p ^ picture_fingerprint(copy(i))).mean()
                for p, i in zip(prints, images[:copies_of], strict=False)
            ]
        )
        found = np.minimum(found, 1 - found)
        detail = np.array([abs(d @ picture_detail(copy(i))) for d, i in zip(details, images[:copies_of], strict=False)])
        copies[name] = {"median": shown(np.median(found)), "p99": shown(np.quantile(found, 0.99)), "max": shown(found.max()),
                        "found": shown((found * BITS <= WITHIN).mean()), "least_detail": shown(detail.min()),
                        "confirmed": shown((detail >= SAME).mean())}  # fmt: skip
    return {
        "images": len(images),
        "pairs_of_other_patients": int((~same).sum()),
        "other_patients": spread(between[~same]),
        "detail_of_other_patients": detail_spread(alike[~same], between[~same]),
        "pairs_of_same_patient": int(same.sum()),
        "same_patient": spread(between[same]) if same.any() else None,
        "detail_of_same_patient": detail_spread(alike[same], between[same]) if same.any() else None,
        "copies": copies,
    }


def spread(values: np.ndarray) -> dict[str, float]:
    """Return the low end, mean and standard deviation."""
    return {"min": shown(values.min()), "p0.01": shown(np.quantile(values, 1e-4)), "mean": shown(values.mean()),
            "sd": shown(values.std()), "within_threshold": int((values * BITS <= WITHIN).sum())}  # fmt: skip


def detail_spread(alike: np.ndarray, apart: np.ndarray) -> dict[str, float]:
    """Return the greatest correlation of detail, that of the hundred pairs nearest by fingerprint, and the standard deviation."""
    nearest = np.argsort(apart)[:100]
    return {"max": shown(alike.max()), "max_of_nearest_100": shown(alike[nearest].max()), "sd": shown(alike.std()),
            "refuted": shown((alike < SAME).mean())}  # fmt: skip


def shown(value: Any) -> float:
    """Round for the file."""
    return round(float(value), 4)


def real(folder: Path) -> tuple[list[np.ndarray], list[str]]:
    """Read the collection, each file once, without patients 178, 339 and 340: 97, 285 and 287 have the same images."""
    images, patients, seen = [], [], set()
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            picture = cv2.imread(str(folder / "images" / row["filename"]), cv2.IMREAD_GRAYSCALE)
            if picture is not None and row["filename"] not in seen and row["patientid"] not in ("178", "339", "340"):
                seen.add(row["filename"])
                images.append(picture)
                patients.append(row["patientid"])
    return images, patients


def reading(images: int, folder: Path) -> dict[str, float]:
    """Pack phantoms enlarged to 512 px many times over and time the reading of all with two processes."""
    table = ["image,report,patient"]
    for number, picture in enumerate(pictures(100)):
        cv2.imwrite(str(folder / f"{number}.jpg"), cv2.resize(picture, (560, 512), interpolation=cv2.INTER_CUBIC))
    table += [f"{n % 100}.jpg,No effusion is seen today.,p{n}" for n in range(images)]
    (folder / "reports.csv").write_text("\n".join(table))
    source = TableSource(folder, folder / "reports.csv", TableColumns(patient="patient", study="patient"))
    pack(source, folder / "set", PackOptions(val_share=0, test_share=0), workers=2)
    packed = PackedSet.open(folder / "set")
    start = time.perf_counter()
    found = prints_of(packed, "train", workers=2)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    prints_of(packed, "train", workers=2)
    assert found.records["bits"].any(axis=1).all()
    return {"images": images, "seconds": shown(seconds), "images_per_second": shown(images / seconds),
            "seconds_when_kept": shown(time.perf_counter() - start)}  # fmt: skip


def comparing(count: int) -> dict[str, float]:
    """Compare random fingerprints, `count` with as many."""
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (count, BYTES), dtype=np.uint8) for _ in range(2))
    start = time.perf_counter()
    found = find_pairs(first, second, within=WITHIN, progress=True)
    seconds = time.perf_counter() - start
    assert not len(found)
    return {"fingerprints": count, "seconds": shown(seconds), "pairs_per_second": shown(count**2 / seconds)}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=3000, help="patients (default: 3000)")
    parser.add_argument("--images", type=int, default=10_000, help="of the packed set that is timed (default: 10,000)")
    parser.add_argument(
        "--compare", type=int, default=100_000, help="fingerprints that are compared (default: 100,000)"
    )
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "bits": BITS, "within": WITHIN, "same_detail": SAME,
    }  # fmt: skip
    result["phantoms"] = distances(pictures(arguments.phantoms), [str(n) for n in range(arguments.phantoms)], 300)
    if REAL.is_dir():
        result["real"] = distances(*real(REAL), 200)
    with tempfile.TemporaryDirectory() as folder:
        result["reading"] = reading(arguments.images, Path(folder))
    result["comparing"] = comparing(arguments.compare)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""MS-CXR 1.1.0 and 0.1, beside the miniature of MIMIC-CXR-JPG that its boxes are drawn on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msvl.data.phantom.miniatures import mimic_cxr_jpg
from msvl.data.phantom.miniatures.material import CHEXPERT_NAMES, MiniatureStudy, write_table, write_text
from msvl.data.sources.ms_cxr import COLUMNS

NEW, OLD = "ms-cxr/1.1.0/MS_CXR_Local_Alignment_v1.1.0", "ms-cxr/0.1/MS_CXR_Local_Alignment_v1.0.0"
NAMES = CHEXPERT_NAMES | {"nodule": "Lung Opacity"}


def write(folder: Path, studies: Sequence[MiniatureStudy]) -> None:
    """Write annotations as CSV and COCO JSON in both versions, and MIMIC-CXR-JPG.

    Every other patient has boxes. With the quirks of the original: phrases that own several boxes, images listed once per category in the JSON, a split that
    is not MIMIC's, and none in version 1.0.0.
    """
    mimic_cxr_jpg.write(folder, studies)
    rows = [row for study in studies if study.patient % 2 == 0 for row in _rows(study)]
    write_table(folder / f"{NEW}.csv", (*COLUMNS, "split"), rows)
    write_table(folder / f"{OLD}.csv", COLUMNS, [row[:-1] for row in rows])
    for name in (NEW, OLD):
        write_text(folder / f"{name}.json", json.dumps(_coco(rows, with_split=name == NEW), indent=1))


def pack_words(folder: Path) -> list[str]:
    """Return the arguments of `msvl data pack` for what `write` wrote."""
    images = str(folder / mimic_cxr_jpg.JPG)
    return ["ms-cxr", "--images", images, "--annotations", str((folder / NEW).parent)]


def _rows(study: MiniatureStudy) -> list[list[Any]]:
    height, width = study.frontal.shape
    path = mimic_cxr_jpg.image_path(study, "PA")
    split = ("train", "train", "val", "test")[study.patient // 2 % 4]
    rows: list[list[Any]] = []
    for box in study.boxes:
        x, y, w, h = (int(value) for value in (box.x, box.y, box.w, box.h))
        # A phrase with two boxes: one in two halves.
        parts = [(x, y, w, h)] if study.number % 3 or w < 4 else [(x, y, w // 2, h), (x + w // 2, y, w - w // 2, h)]
        for part in parts:
            rows.append(
                [mimic_cxr_jpg.dicom_id(study, "PA"), NAMES[box.finding], box.phrase, path, *part, width, height, split]
            )
    return rows


def _coco(rows: Sequence[Sequence[Any]], *, with_split: bool) -> dict[str, Any]:
    categories = sorted({row[1] for row in rows})
    places = list(dict.fromkeys((row[3], row[1]) for row in rows))
    sizes = {row[3]: (row[8], row[9]) for row in rows}
    splits = {row[3]: row[10] for row in rows}
    images = []
    for number, (path, _) in enumerate(places):
        image = {
            "id": number,
            "path": path,
            "file_name": Path(path).name,
            "width": sizes[path][0],
            "height": sizes[path][1],
        }
        images.append(image | ({"split": splits[path]} if with_split else {}))
    annotations = [
        {"id": number, "image_id": places.index((row[3], row[1])), "category_id": categories.index(row[1]),
         "label_text": row[2], "bbox": [float(value) for value in row[4:8]]}
        for number, row in enumerate(rows)
    ]  # fmt: skip
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
    }

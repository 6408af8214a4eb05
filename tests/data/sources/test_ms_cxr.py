"""MS-CXR: both versions, CSV and JSON, phrases with several boxes, images of MIMIC-CXR-JPG."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.pack import pack
from msvl.data.pack_options import PackOptions
from msvl.data.pack_plan import plan
from msvl.data.packed import PackedSet
from msvl.data.phantom.miniatures.mimic_cxr_jpg import JPG, REPORTS
from msvl.data.phantom.miniatures.ms_cxr import NEW, OLD
from msvl.data.reader import SampleReader
from msvl.data.study import Entry
from tests.helpers.miniatures import source_from, source_of, write_miniature

NAME = "ms-cxr"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(NAME, tmp_path_factory.mktemp("ms-cxr"), train=24)


def entries(folder: Path, file: str) -> list[Entry]:
    words = [NAME, "--images", str(folder / JPG), "--annotations", str(folder / file)]
    return source_from(words).entries()


def test_csv_and_json_say_the_same(folder: Path) -> None:
    table, coco = entries(folder, f"{NEW}.csv"), entries(folder, f"{NEW}.json")
    assert [(e.patient, e.study, e.image, e.split, e.labels) for e in table] == [
        (e.patient, e.study, e.image, e.split, e.labels) for e in coco
    ]
    assert [e.payload for e in table] == [e.payload for e in coco]


def test_one_entry_per_image_and_the_boxes_of_a_phrase_stay_together(folder: Path) -> None:
    found = entries(folder, f"{NEW}.csv")
    assert len({entry.image for entry in found}) == len(found)
    per_phrase = Counter((e.image, box.finding, box.phrase) for e in found for box in e.payload["boxes"])
    assert max(per_phrase.values()) == 2
    for entry in found:
        assert {name for name, state in entry.labels.items() if state == 1} == {
            box.finding for box in entry.payload["boxes"]
        }
        assert set(entry.labels.values()) <= {1, None}, "what is not drawn is not known to be absent"


def test_version_one_has_no_split_and_is_all_for_judging(folder: Path) -> None:
    assert {entry.split for entry in entries(folder, f"{NEW}.csv")} == {"train", "val", "test"}
    assert {entry.split for entry in entries(folder, f"{OLD}.csv")} == {"test"}
    assert {entry.split for entry in entries(folder, f"{OLD}.json")} == {"test"}


def test_patients_and_studies_have_the_hashes_of_mimics_own(folder: Path) -> None:
    mimic = plan(source_of("mimic-cxr-jpg", folder), PackOptions())
    known = {(job.key, job.study, job.patient) for unit in mimic for job in unit.jobs}
    ours = {
        (job.key, job.study, job.patient) for unit in plan(source_of(NAME, folder), PackOptions()) for job in unit.jobs
    }
    assert ours <= known


def test_boxes_are_scaled_to_the_stored_image(folder: Path, tmp_path: Path) -> None:
    source = source_of(NAME, folder)
    pack(source, tmp_path / "out", PackOptions(short_side=32), workers=1, progress=False)
    index = PackedSet.open(tmp_path / "out").split("train")
    boxes = {job.key: job.entry.payload["boxes"] for unit in plan(source, PackOptions()) for job in unit.jobs}
    reader = SampleReader(index)
    for row in range(len(index)):
        for stored, box in zip(reader.meta(row)["boxes"], boxes[reader.key(row)], strict=True):
            assert (stored["phrase"], stored["finding"]) == (box.phrase, box.finding)
            assert [stored[name] * 2 for name in "xywh"] == pytest.approx([box.x, box.y, box.w, box.h])


def test_images_of_another_size_than_the_boxes_are_refused(tmp_path: Path) -> None:
    folder = write_miniature(NAME, tmp_path, train=6, val=0, test=0)
    source = source_of(NAME, folder)
    entry = source.entries()[0]
    cv2.imwrite(str(folder / JPG / entry.payload["path"]), np.zeros((32, 32), np.uint8))
    with pytest.raises(
        DataError, match="the image has 32 x 32 px and its boxes were drawn in 64 x 64: give the images of"
    ):
        source.record(entry)


def test_reports_of_mimic_can_be_had_too(folder: Path) -> None:
    alone, both = source_of(NAME, folder), source_of(NAME, folder, "--reports", str(folder / REPORTS))
    assert (alone.has_reports, both.has_reports) == (False, True)
    assert alone.record(alone.entries()[0]).report == ""
    assert "FINAL REPORT" in both.record(both.entries()[0]).report

"""Labelled sets without reports: packed, looked at, verified; trained on only with sentences made from their labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.config import DataConfig, ReportConfig
from msvl.data.inspect_set import describe, render
from msvl.data.pack import pack
from msvl.data.pack_options import PackOptions
from msvl.data.pack_plan import plan
from msvl.data.packed import PackedSet
from msvl.data.reader import SampleReader
from msvl.data.sample import usable_sentences
from msvl.data.study import Entry, Record
from msvl.data.training_data import TrainingData
from msvl.data.verify import verify
from tests.helpers.packed_sets import OPTIONS
from tests.helpers.tiny_source import TinySource


class Labelled(TinySource):
    """Labels and no reports; two studies per patient whose order is known."""

    name = "labelled"
    has_reports = False

    def entries(self) -> list[Entry]:
        return [replace(entry, order=-float(entry.payload)) for entry in super().entries()]

    def record(self, entry: Entry) -> Record:
        return replace(super().record(entry), report="", labels={"edema": entry.payload % 3 - 1, "nodule": None})


def packed(folder: Path, options: PackOptions = OPTIONS) -> PackedSet:
    pack(Labelled(20), folder / "out", options, workers=1, progress=False)
    return PackedSet.open(folder / "out")


def test_samples_have_labels_and_no_text(tmp_path: Path) -> None:
    index = packed(tmp_path).split("train")
    reader = SampleReader(index)
    for row in range(len(index)):
        meta = reader.meta(row)
        assert (meta["report"], meta["sections"], meta["sentences"], meta["text_hash"]) == ("", [], [], "")
        assert meta["labels"]["edema"] in (-1, 0, 1) and meta["labels"]["nodule"] is None
    assert not index.records["text"].any()


def test_rank_and_prior_follow_the_order_in_time_and_the_order_itself_is_not_kept(tmp_path: Path) -> None:
    reader = SampleReader(packed(tmp_path).split("train"))
    by_patient: dict[str, dict[int, dict]] = {}
    for row in range(len(reader.index)):
        meta = reader.meta(row)
        assert set(meta["extra"]) == {"study_rank", "prior"}
        by_patient.setdefault(meta["patient"], {})[meta["extra"]["study_rank"]] = meta
    orders = {job.study: job.entry.order for unit in plan(Labelled(20), OPTIONS) for job in unit.jobs}
    for studies in by_patient.values():
        assert orders[studies[0]["study"]] < orders[studies[1]["study"]]
        assert studies[0]["extra"]["prior"] is None
        assert studies[1]["extra"]["prior"] == studies[0]["study"]


def test_inspect_and_verify_take_it(tmp_path: Path) -> None:
    packed(tmp_path)
    description = describe(tmp_path / "out")
    said = render(description)
    assert "reports: none" in said and "uncertain" in said
    assert description["splits"]["train"]["shared_text"] == 0
    assert sum(description["splits"]["train"]["words"].values()) == 0
    assert verify(tmp_path / "out") == []


def test_training_is_refused_in_one_sentence_with_the_cure(tmp_path: Path) -> None:
    packed(tmp_path)
    with pytest.raises(DataError, match="out has no reports, and training .* pack it again with --reports-from-labels"):
        TrainingData.open(DataConfig(path=str(tmp_path / "out"), image_size=32), seed=0)


def test_sentences_from_labels_are_written_when_asked(tmp_path: Path) -> None:
    found = packed(tmp_path, replace(OPTIONS, reports_from_labels=True))
    assert (found.reports, found.has_reports) == ("from labels", True)
    assert found.manifest["options"]["reports_from_labels"] is True
    reader = SampleReader(found.split("train"))
    for row in range(len(reader.index)):
        meta = reader.meta(row)
        said = " ".join(usable_sentences(meta, ReportConfig())).lower()
        assert "edema" in said
        assert ("no " in said) == (meta["labels"]["edema"] == 0)
    TrainingData.open(DataConfig(path=str(tmp_path / "out"), image_size=32), seed=0)


def test_it_is_judged_without_sentences(tmp_path: Path) -> None:
    from msvl.data.evaluation_set import EvaluationSet  # imports torch

    held_out = EvaluationSet.load(packed(tmp_path), "train", image_size=32, report=ReportConfig())
    assert not any(held_out.sentences)
    assert set(np.unique(held_out.labels["edema"])) == {-1, 0, 1}


def test_options_that_need_reports_or_their_absence_are_refused(tmp_path: Path) -> None:
    for source, options, message in (
        (
            Labelled(4),
            replace(OPTIONS, tokenizer_vocabulary=400),
            "--train-tokenizer: the source labelled has no reports",
        ),
        (TinySource(4), replace(OPTIONS, reports_from_labels=True), "the source tiny has reports of its own"),
    ):
        with pytest.raises(DataError, match=message):
            pack(source, tmp_path / "out", options, workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_records_whose_labels_say_nothing_are_dropped_with_the_reason(tmp_path: Path) -> None:
    class Silent(Labelled):
        def record(self, entry: Entry) -> Record:
            record = super().record(entry)
            return replace(record, labels={}) if entry.payload < 4 else record

    pack(Silent(20), tmp_path / "out", replace(OPTIONS, reports_from_labels=True), workers=1, progress=False)
    reasons = PackedSet.open(tmp_path / "out").manifest["dropped"]
    assert reasons == {"no label says anything, so no report can be made from them": 4}

"""The main job on the few real radiographs that lie beside the checkout, by its documented command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.helpers.pages import blocks, run_blocks
from tests.helpers.runs import ROOT

RADIOGRAPHS = ROOT.parent / "shared" / "data" / "covid-cxr"
LINE = "msvl quickstart --real ../shared/data/covid-cxr"


@pytest.mark.slow
@pytest.mark.ranks
@pytest.mark.evidence("The same job on real radiographs, end to end by one documented command", how="gloo")
def test_real_radiographs_end_to_end(tmp_path: Path) -> None:
    if not (RADIOGRAPHS / "metadata.csv").is_file():
        pytest.skip("the real radiographs of ../shared/data/covid-cxr are not here: there is nothing to run on")
    assert any(block.startswith(LINE) for block in blocks("docs/data.md"))
    run_blocks([f"{LINE.rpartition(' ')[0]} {shlex.quote(str(RADIOGRAPHS))}"], tmp_path, limit=1200)
    run = tmp_path / "runs" / "covid_cxr"
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    for task, name in (("zero_shot", "auc_mean"), ("retrieval", "report_r5"), ("linear_probe", "auc_mean")):
        if (
            interval := results[task][f"{name}_interval"]
        ) is None:  # few patients: most draws lack a class of some finding
            assert "resamples of the patients" in results[task][f"{name}_interval_missing"]
        else:
            assert interval[0] <= results[task][name] <= interval[1]
        assert f"{name}_untrained" in results[task]
    assert (results["facts"]["ranks"], results["facts"]["zero_stage"]) == (2, 2)
    assert {"pack covid-cxr", "train", "evaluate test", "total"} <= set(results["seconds"])
    assert (run / "report.html").stat().st_size > 100_000

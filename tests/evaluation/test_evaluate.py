"""`msvl evaluate` and `msvl report` on a real packed set and a real, if tiny, model."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from msvl.config.errors import CheckpointError, ConfigError, DataError
from msvl.config.load import load_config
from msvl.config.save import save_config
from msvl.data.pack import PackOptions, pack
from msvl.data.packed import PackedSet
from msvl.data.sources.phantom import PhantomSource
from msvl.data.tokenise import ReportTokeniser
from msvl.evaluation.cli import add_parsers
from msvl.evaluation.locate import FINISHED
from msvl.models.build import build_model
from msvl.models.exported import save_exported
from msvl.training.config import PretrainConfig
from tests.helpers.runs import tiny_config

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def packed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "phantom"
    source = PhantomSource(train=60, val=8, test=48, size=64)
    options = PackOptions(short_side=64, shard_samples=50, tokenizer_vocabulary=300)
    pack(source, folder, options, workers=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, packed_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    image = {"width": 32, "depth": 1, "heads": 2, "mlp_width": 32, "decoder": {"width": 16, "depth": 1, "heads": 2}}
    text = {"width": 32, "depth": 1, "heads": 2, "mlp_width": 32}
    model = {"channels": 16, "image": image, "text": text}
    file = tiny_config(folder / "tiny.yaml", data=packed_folder, runs=folder, name="tiny", model=model)
    config = load_config(str(file), [], PretrainConfig)
    packed = PackedSet.open(packed_folder)
    tokeniser = ReportTokeniser(str(packed.tokenizer_path), config.data.report)
    torch.manual_seed(5)
    built = build_model(
        config.model, image_size=config.data.image_size, tokeniser=tokeniser, pixel_mean=packed.pixel_mean,
        pixel_std=packed.pixel_std,
    )  # fmt: skip
    checkpoint = folder / "tiny" / "checkpoints" / "step-00000008"
    save_exported(
        checkpoint / "model", config=built.config, state_dict=built.state_dict(), tokeniser=tokeniser, data=config.data,
        sources=[{"name": packed.name, "licence": packed.licence}],
    )  # fmt: skip
    (checkpoint / FINISHED).touch()
    save_config(config, folder / "tiny" / "config.yaml")
    return folder / "tiny"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "tiny"))


def msvl(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers(dest="command"))
    arguments = parser.parse_args([str(word) for word in words])
    return int(arguments.run(arguments))


@pytest.mark.evidence(
    "`msvl evaluate RUN` judges zero-shot classification, retrieval, phrase grounding and a linear probe with intervals over patients",
    how="cpu",
)
def test_a_run_is_judged_on_its_own_data(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert msvl("evaluate", run, "--untrained", "--resamples", 50) == 0
    content = json.loads((run / "evaluation" / "phantom-test.json").read_text())
    assert content["data"]["patients"] == 48
    assert content["model"]["step"] == 8
    figures = content["figures"]
    assert list(figures) == ["zero_shot", "retrieval", "grounding", "linear_probe", "pixel_baseline"]
    headlines = {
        "zero_shot": "auc_mean", "retrieval": "report_r5", "grounding": "cnr", "linear_probe": "auc_mean",
    }  # fmt: skip
    for task, name in headlines.items():
        assert {name, f"{name}_interval", f"{name}_untrained", f"{name}_untrained_interval"} <= set(figures[task]), task
    said = capsys.readouterr()
    assert "Zero-shot AUC" in said.out
    assert f"Next: msvl report {run}" in said.err


@pytest.mark.evidence("The same checkpoint and seed give the same figures and intervals", how="cpu")
def test_the_same_seed_gives_the_same_figures(run: Path) -> None:
    contents = []
    for name in ("first", "second"):
        msvl("evaluate", run, "--untrained", "--resamples", 20, "--name", name)
        contents.append(json.loads((run / "evaluation" / f"{name}.json").read_text())["figures"])
    assert contents[0] == contents[1]


def test_json_is_all_that_stands_on_stdout(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    msvl("evaluate", run, "--json", "--tasks", "retrieval", "--resamples", 0)
    assert list(json.loads(capsys.readouterr().out)["figures"]) == ["retrieval"]
    assert (run / "evaluation" / "phantom-test-retrieval.json").is_file()


def test_nothing_of_a_report_reaches_the_terminal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    msvl("evaluate", run, "--resamples", 0)
    examples = json.loads((run / "evaluation" / "phantom-test-examples" / "examples.json").read_text())
    said = "".join(capsys.readouterr())
    assert examples["retrieval"]
    assert not [item["report"] for item in examples["retrieval"] if item["report"] in said]


def test_the_report_page_follows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    msvl("evaluate", run, "--untrained", "--resamples", 20)
    assert msvl("report", run) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 8 * 2 + 8
    assert "simulated" in page
    assert json.loads((run / "results.json").read_text())["zero_shot"]["auc_mean_untrained"] >= 0
    assert str(run / "report.html") in capsys.readouterr().err


def test_a_model_on_its_own_needs_data(run: Path, packed_folder: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(run / "checkpoints" / "step-00000008" / "model", tmp_path / "alone")
    with pytest.raises(DataError, match="belongs to no run, so its data is not known: name a packed set with --data"):
        msvl("evaluate", alone)
    assert msvl("evaluate", alone, "--data", packed_folder, "--tasks", "retrieval", "--resamples", 0) == 0
    assert (alone / "evaluation" / "phantom-test-retrieval.json").is_file()


def test_other_data_without_training_studies_is_probed_with_the_runs_own(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    source = PhantomSource(train=0, val=0, test=30, size=64, seed=9)
    pack(source, other, PackOptions(short_side=64), workers=1, progress=False)
    msvl("evaluate", run, "--data", other, "--resamples", 0, "--name", "other")
    figures = json.loads((run / "evaluation" / "other.json").read_text())["figures"]
    assert figures["linear_probe"]["training_images"] >= 60


def test_prompts_for_other_findings_are_one_sentence(run: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("gout: {positive: [gout], negative: [no gout]}", encoding="utf-8")
    with pytest.raises(DataError, match="has prompts for gout but the evaluated split has labels for cardiomegaly"):
        msvl("evaluate", run, "--prompts", tmp_path / "p.yaml")


def test_the_training_split_is_not_judged_by_a_probe_fitted_on_it(run: Path) -> None:
    with pytest.raises(DataError, match="the probes are fitted on split train: judge another one"):
        msvl("evaluate", run, "--split", "train")


def test_an_unknown_task_names_the_right_ones(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--tasks 'retrieva': Input should be 'zero_shot', 'retrieval'"):
        msvl("evaluate", run, "--tasks", "retrieva")


def test_a_missing_file_of_the_model_is_named(run: Path) -> None:
    (run / "checkpoints" / "step-00000008" / "model" / "msvl.json").unlink()
    with pytest.raises(CheckpointError, match=r"msvl\.json is missing"):
        msvl("evaluate", run)


def test_the_parsers_do_not_import_torch() -> None:
    code = (
        "import argparse, sys; from msvl.evaluation.cli import add_parsers; "
        "add_parsers(argparse.ArgumentParser().add_subparsers()); "
        "sys.exit(bool({'torch', 'sklearn', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

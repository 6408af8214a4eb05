"""A configuration is read, overridden, checked and written back; every fault names file, key and cure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from msvl.config.errors import ConfigError
from msvl.config.load import load_config
from msvl.config.save import save_config
from msvl.training.config import PretrainConfig

MINIMAL = "run: {name: q}\ndata: {path: shards/x}\ntrain: {steps: 10, global_batch: 64}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(MINIMAL)
    return path


def test_override_wins_over_file_and_default_fills_the_rest(file: Path) -> None:
    config = load_config(file, ["train.steps=20", "objectives.global.temperature=0.1"], PretrainConfig)
    assert (config.train.steps, config.objectives.global_.temperature, config.zero.stage) == (20, 0.1, 2)


def test_scientific_notation_without_a_dot_is_a_number(file: Path) -> None:
    assert load_config(file, ["optimizer.lr=1e-4"], PretrainConfig).optimizer.lr == 1e-4


def test_saved_config_reads_back_equal(file: Path, tmp_path: Path) -> None:
    config = load_config(file, ["model.image.stem=conv", "objectives.modality.weight=0.5"], PretrainConfig)
    save_config(config, tmp_path / "resolved.yaml")
    assert load_config(tmp_path / "resolved.yaml", [], PretrainConfig) == config


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.stepz=3", ["run.yaml", "unknown key 'train.stepz'", "did you mean 'train.steps'?"]),
        ("temperature=3", ["unknown key 'temperature'", "did you mean 'objectives.global.temperature'?"]),
        ("zzz=1", ["unknown key 'zzz'", "known keys here are", "train"]),
        ("train.steps=abc", ["train.steps", "found 'abc' (str)", "expected"]),
        ("train.steps=0", ["train.steps", "found 0", "greater than 0"]),
        ("zero.stage=4", ["zero.stage", "found 4", "0, 1, 2 or 3"]),
        ("data.image_size=100", ["data.image_size 100", "multiple of model.image.patch 16", "96 and 112"]),
        ("train.steps", ["expected key.path=value"]),
        ("run.name.x=1", ["run.name is a value, not a section"]),
    ],
)
def test_fault_names_key_and_cure(file: Path, override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, [override], PretrainConfig)
    message = str(caught.value)
    assert all(part in message for part in parts), message


def test_all_faults_are_told_at_once(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, ["train.stepz=3", "zero.stage=9"], PretrainConfig)
    assert "train.stepz" in str(caught.value)
    assert "zero.stage" in str(caught.value)


def test_missing_file_names_the_nearest(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such configuration file.*Did you mean .*run\.yaml"):
        load_config(file.with_name("runn.yaml"), [], PretrainConfig)


def test_doubled_key_is_refused_with_its_line(file: Path) -> None:
    file.write_text(MINIMAL + "run: {name: again}\n")
    with pytest.raises(ConfigError, match="line 4: the key 'run' stands twice"):
        load_config(file, [], PretrainConfig)


def test_yaml_cannot_run_code(file: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    file.write_text(
        f"run: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{marker}']]\n"
    )
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(file, [], PretrainConfig)
    assert not marker.exists()


def test_every_shipped_config_is_valid() -> None:
    shipped = sorted(Path(__file__).resolve().parents[2].glob("configs/pretrain/*.yaml"))
    assert shipped
    for path in shipped:
        load_config(path, [], PretrainConfig)


def test_paper_config_has_no_cross_sample_term() -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / "pretrain" / "paper.yaml"
    assert load_config(path, [], PretrainConfig).objectives.modality.cross_sample_weight == 0


def test_reading_a_configuration_imports_no_torch() -> None:
    code = "import sys, msvl.config.load, msvl.training.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""From what a user names to the model's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from msvl.config.errors import CheckpointError
from msvl.evaluation.locate import FINISHED, WEIGHTS, locate_model


def make_checkpoint(run: Path, step: int, *, finished: bool = True) -> Path:
    folder = run / "checkpoints" / f"step-{step:08d}"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / WEIGHTS).touch()
    if finished:
        (folder / FINISHED).touch()
    return folder


def test_a_run_means_its_best_checkpoint(tmp_path: Path) -> None:
    best = make_checkpoint(tmp_path, 100)
    make_checkpoint(tmp_path, 200)
    (tmp_path / "checkpoints" / "best").symlink_to(best.name)
    place = locate_model(tmp_path)
    assert (place.model, place.run, place.step) == (best / "model", tmp_path, 100)
    assert place.evaluations == tmp_path / "evaluation"


def test_a_run_without_a_best_one_means_its_newest_finished(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, 100)
    make_checkpoint(tmp_path, 200)
    make_checkpoint(tmp_path, 300, finished=False)
    assert locate_model(tmp_path).step == 200


def test_a_checkpoint_and_its_model_folder_are_the_same(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 100)
    assert locate_model(folder) == locate_model(folder / "model")
    assert locate_model(folder).run == tmp_path


def test_a_model_on_its_own_keeps_its_figures_beside_it(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).touch()
    place = locate_model(tmp_path)
    assert (place.run, place.step, place.evaluations) == (None, None, tmp_path / "evaluation")


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^there is no folder .*nowhere: name a run"):
        locate_model(tmp_path / "nowhere")


def test_any_other_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither a run \(no checkpoints/\), nor a checkpoint \(no model/\)"):
        locate_model(tmp_path)


def test_a_run_before_its_first_save_says_so(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, 100, finished=False)
    with pytest.raises(CheckpointError, match="holds no finished checkpoint"):
        locate_model(tmp_path)


def test_an_unfinished_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no COMPLETE marker"):
        locate_model(make_checkpoint(tmp_path, 100, finished=False))


def test_a_checkpoint_without_weights_names_the_file(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 100)
    (folder / "model" / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"model/model\.safetensors is missing"):
        locate_model(folder)

"""`msvl gradcheck`, typed as a user types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from msvl.training.run_folder import RunFolder
from tests.helpers.runs import ROOT, Finished, execute

pytestmark = pytest.mark.ranks
LOSSES = "tests.training.gradcheck.losses"
CONFIG = str(ROOT / "configs" / "pretrain" / "mimic_cxr.yaml")


def gradcheck(*words: str) -> Finished:
    return execute([sys.executable, "-m", "msvl.cli", "gradcheck", *words], limit=200)


@pytest.mark.evidence("`msvl gradcheck` finds the shipped objectives exact on 4 ranks", how="gloo")
def test_the_shipped_objectives_are_exact_on_four_ranks(tmp_path: Path) -> None:
    done = gradcheck(CONFIG, "--shrink", "--ranks", "4", "--out", str(tmp_path / "g.json"))
    assert done.code == 0, done.output
    assert "measuring on 4 ranks" in done.output
    assert "4 ranks give the losses and gradients of one process" in done.output
    stored = json.loads((tmp_path / "g.json").read_text())
    assert stored["right"] is True
    assert (stored["asked"]["config"], stored["asked"]["shrink"], stored["asked"]["pairs"]) == (CONFIG, True, 2)
    assert set(stored["values"]) == {"global", "local", "instance", "modality", "total"}
    assert {line["group"] for line in stored["lines"]} >= {"image encoder", "text encoder", "projections", "decoders"}


@pytest.mark.evidence("`msvl gradcheck` finds the sigmoid loss exact on 2 ranks, scale and bias included", how="gloo")
def test_the_sigmoid_loss_is_exact(tmp_path: Path) -> None:
    words = ("--shrink", "--ranks", "2", "--out", str(tmp_path / "g.json"))
    only = [f"objectives.{scale}.weight=0" for scale in ("local", "instance", "modality")]
    done = gradcheck(CONFIG, *words, *only, "objectives.global.loss=sigmoid", "objectives.global.temperature=0.1")
    assert done.code == 0, done.output
    lines = [line for line in json.loads((tmp_path / "g.json").read_text())["lines"] if line["loss"] == "global"]
    assert {line["group"] for line in lines} >= {"image encoder", "text encoder", "logit scales"}


@pytest.mark.evidence("`msvl gradcheck --break` runs popular mistakes and finds each", how="gloo")
@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("detached-gather", "image encoder gradients"),
        pytest.param("rank-local-negatives", "global: the value is", marks=pytest.mark.slow),
        ("unscaled", "the mix with other losses changes with the number of GPUs"),
    ],
)
def test_a_popular_mistake_is_found(tmp_path: Path, mistake: str, words: str) -> None:
    done = gradcheck(CONFIG, "--shrink", "--ranks", "2", "--break", mistake, f"run.folder={tmp_path}")
    assert done.code == 1, done.output
    assert words in done.output
    assert "WRONG" in done.output
    run = tmp_path / "mimic_cxr"  # made by gradcheck, which stores the result with a run that is still to come
    assert json.loads((run / f"gradcheck-{mistake}.json").read_text())["right"] is False
    assert not (run / "gradcheck.json").exists()  # which speaks of the run as it is
    assert run.stat().st_mode & 0o077 == 0
    RunFolder(run).check_start(resume=False)


@pytest.mark.evidence("`msvl gradcheck --loss` says in words what anybody's loss does on N ranks", how="gloo")
def test_a_loss_of_ones_own() -> None:
    plain = gradcheck("--loss", f"{LOSSES}:Exact", "--ranks", "4", "--json")
    assert plain.code == 0, plain.output
    assert json.JSONDecoder().raw_decode(plain.output[plain.output.index("{") :])[0]["right"] is True
    done = gradcheck("--loss", f"{LOSSES}:WithoutGradient", "--ranks", "4", "--option", "factor=1.0")
    assert done.code == 1, done.output
    assert "logit_scale gradients are exact, encoder gradients x 0.25" in done.output
    assert "the mix with other losses changes with the number of GPUs" in done.output


def test_a_loss_in_a_wrapper_called_with_labels_and_references() -> None:
    words = ("--loss", f"{LOSSES}:Wrapper", "--ranks", "2", "--option")
    done = gradcheck(*words, f"loss={{class: '{LOSSES}:Exact'}}")
    assert done.code == 0, done.output
    done = gradcheck(*words, f"loss={{class: '{LOSSES}:WithoutGradient', factor: 2.0}}")
    assert done.code == 1, done.output
    assert "encoder gradients x 0.50" in done.output


def test_an_optional_bias_is_left_out() -> None:
    assert gradcheck("--loss", f"{LOSSES}:OptionalBias", "--ranks", "2").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "needs a configuration, or --loss"),
        (("--loss", "nowhere.at:All"), "cannot be imported"),
        (("--loss", "math"), "expected package.module:Class"),
        (
            ("--loss", f"{LOSSES}:Wrapper", "--option", "loss={class: 'nowhere:All'}"),
            "--option loss nowhere:All cannot be",
        ),
        ((CONFIG, "--ranks", "1"), "at least 2"),
        ((CONFIG, "--pairs", "0"), "at least 1 pair"),
        ((CONFIG, "--option", "factor=1"), "belongs to --loss"),
        ((CONFIG, "--out", "/nowhere/at/all.json"), "there is no folder /nowhere/at"),
        (("--loss", f"{LOSSES}:Exact", "--break", "unscaled"), "--break belongs to a configuration"),
        (("--loss", f"{LOSSES}:Exact", "--option", "factor"), "expected NAME=VALUE"),
        (("--loss", f"{LOSSES}:Exact", "--option", "depth=3"), "cannot be built from --option ['depth']"),
        (("--loss", f"{LOSSES}:Wrapper"), "missing a required argument: 'loss'"),
        (("--loss", f"{LOSSES}:OfADict"), "its forward cannot be called with (image, text)"),
        (("--loss", f"{LOSSES}:OfEveryPair"), "returned a tensor [4], expected one number"),
        (("--loss", f"{LOSSES}:Detached"), "carries no gradient"),
        (("--loss", "pathlib:Path"), "is no torch.nn.Module"),
    ],
)
def test_mistakes_of_typing(words: tuple[str, ...], message: str) -> None:
    done = gradcheck(*words)
    assert done.code == 2
    assert message in done.output
    assert "Traceback" not in done.output

"""`msvl predict` and `msvl ground` on picture files, and the same from Python."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from msvl.cli import main
from msvl.config.errors import CheckpointError, ConfigError, DataError
from msvl.data.evaluation_set import EvaluationSet
from msvl.data.packed import PackedSet
from msvl.data.phantom.miniatures.dicom_files import write_dicom
from msvl.evaluation.encoders import PhrasePairs, encode_images, encode_prompts
from msvl.evaluation.locate import locate_model
from msvl.evaluation.prompts import FindingPrompts, PromptSet
from msvl.evaluation.published_prompts import published_prompts
from msvl.evaluation.reading import Reader, read_picture
from msvl.evaluation.reading_cli import newest_run
from msvl.models.exported import export_settings, load_exported
from tests.evaluation.judged_runs import SIZE, make_run, pack_phantom

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
NIH = ROOT.parent / "shared" / "data" / "nih-samples"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_phantom(tmp_path_factory.mktemp("shards") / "phantom", train=40, val=4, test=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"), packed)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A picture wider than high, with a bright right end."""
    picture = np.random.default_rng(0).integers(0, 200, (80, 120), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "scan.png"), picture)
    return tmp_path / "scan.png"


@pytest.mark.evidence(
    "`msvl predict` gives zero-shot findings for PNG, JPEG and DICOM files with the user's own prompts", how="cpu"
)
def test_predict_scores_pictures_by_own_prompts(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.jpg"
    cv2.imwrite(str(other), np.full((70, 64), 90, dtype=np.uint8))
    prompts = tmp_path / "mine.yaml"
    prompts.write_text("effusion: {positive: [there is an effusion], negative: [no effusion, clear lungs]}\n")
    assert main(["predict", str(scan), str(other), "--prompts", str(prompts), "--model", str(run), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [item["image"] for item in content["images"]] == [str(scan), str(other)]
    scores = [item["findings"]["effusion"] for item in content["images"]]
    assert all(-2 <= score <= 2 for score in scores) and scores[0] != scores[1]


def test_predict_is_zero_shot_classification(run: Path, packed: Path, tmp_path: Path) -> None:
    # The score of a packed image, written as a PNG of the model's own size, is the evaluation's.
    place = locate_model(run).model
    held = EvaluationSet.load(PackedSet.open(packed), "test", image_size=SIZE, report=export_settings(place).report)
    file = tmp_path / "own.png"
    cv2.imwrite(str(file), held.images[0, 0].numpy())
    prompts = PromptSet({"effusion": FindingPrompts(("there is an effusion",), ("no effusion",))}, origin="test")
    reader = Reader.open(run)
    ((found,),) = reader.predict([file], prompts)
    model = load_exported(place)
    sides = encode_prompts(model, reader._tokeniser, ["there is an effusion", "no effusion"], batch_size=2).text
    image = encode_images(model, held.images[:1], batch_size=1).image
    assert found.score == pytest.approx(float(image @ (sides[0] - sides[1])), abs=1e-6)


def test_findings_take_a_shipped_prompt_set(run: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(scan), "--findings", "pleural effusion, nodule", "--model", str(run)]) == 0
    said = capsys.readouterr()
    assert "pleural effusion" in said.out and "nodule" in said.out
    assert "no probability" in said.err


@pytest.mark.evidence("`msvl ground IMAGE PHRASE` writes the overlay at the picture's own resolution", how="cpu")
def test_ground_writes_an_overlay_of_the_pictures_size(
    run: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)  # what is drawn goes here, not into the folder of the radiographs
    assert main(["ground", str(scan), "left pleural effusion", "--model", str(run)]) == 0
    drawn = cv2.imread(str(here / "scan-overlay.png"))
    assert drawn.shape == (80, 120, 3)


def test_the_map_lies_in_the_centred_square_and_is_the_evaluations(run: Path, scan: Path) -> None:
    reader = Reader.open(run)
    found = reader.ground(scan, "effusion")
    assert found.map.shape == (80, 120)
    assert np.isnan(found.map[:, :20]).all() and np.isnan(found.map[:, 100:]).all()
    assert np.isfinite(found.map[:, 20:100]).all()
    x, y = found.peak
    assert found.map[y, x] == np.nanmax(found.map)
    vector = encode_prompts(reader.model, reader._tokeniser, ["effusion"], batch_size=1).sentence
    square = cv2.resize(found.image[:, 20:100], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    pairs = PhrasePairs(torch.zeros(1, dtype=torch.int64), vector)
    grid = encode_images(reader.model, torch.from_numpy(square[None, None]), batch_size=1, pairs=pairs).pair_maps[0]
    corners = found.map[[0, 0, -1, -1], [20, 99, 20, 99]]  # up to the centre of its patch a corner keeps its value
    assert corners == pytest.approx(grid[[0, 0, -1, -1], [0, -1, 0, -1]].numpy(), abs=1e-5)


def test_three_lines_from_python(run: Path, scan: Path, tmp_path: Path) -> None:
    from msvl.evaluation.reading import Reader

    reader = Reader.open(run)
    reader.ground(scan, "left pleural effusion").save(tmp_path / "overlay.png")
    ((effusion, nodule),) = reader.predict([scan], ["pleural effusion", "nodule"])
    assert (tmp_path / "overlay.png").is_file()
    expected = reader.predict([scan], published_prompts("maco", ["pleural effusion", "nodule"]))
    assert [[effusion, nodule]] == expected and (effusion.name, nodule.name) == ("pleural effusion", "nodule")
    with pytest.raises(DataError, match="name at least one picture and one finding"):
        reader.predict([scan], [])


def test_the_newest_finished_run_is_taken(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scan: Path
) -> None:
    with pytest.raises(CheckpointError, match="holds no finished run: name a model with --model"):
        newest_run(tmp_path / "runs")
    assert newest_run(run.parent) == run
    later = run.parent.with_name("more")
    for name, stamp in (("old", 1), ("new", 2)):
        mark = later / name / "checkpoints" / "step-00000001" / "COMPLETE"
        mark.parent.mkdir(parents=True)
        mark.touch()
        os.utime(mark, (stamp, stamp))
    assert newest_run(later).name == "new"


def test_faults_are_one_sentence(run: Path, scan: Path, tmp_path: Path) -> None:
    words = ["--model", str(run), "--debug"]
    with pytest.raises(ConfigError, match="say what to look for"):
        main(["predict", str(scan), *words])
    with pytest.raises(DataError, match="nothing.png: there is no such image file"):
        main(["ground", str(tmp_path / "nothing.png"), "nodule", *words])
    with pytest.raises(DataError, match="the phrase is empty"):
        main(["ground", str(scan), " ", *words])
    with pytest.raises(DataError, match="is the image itself"):
        main(["ground", str(scan), "nodule", "--out", str(scan), *words])
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((5, 90), dtype=np.uint8))
    with pytest.raises(DataError, match="has 90 x 5 px; at least 16 are needed"):
        main(["ground", str(tmp_path / "tiny.png"), "nodule", *words])


def test_sixteen_bits_are_read_by_their_range(tmp_path: Path) -> None:
    deep = np.linspace(1000, 3000, 64 * 64).reshape(64, 64).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    picture = read_picture(tmp_path / "deep.png")
    assert (picture.dtype, picture.min(), picture.max()) == (np.uint8, 0, 255)


def test_dicom_is_read_as_the_same_picture(run: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(2).integers(0, 4096, (96, 80), dtype=np.uint16)
    write_dicom(tmp_path / "scan.dcm", picture, bits=12)
    cv2.imwrite(str(tmp_path / "scan.png"), picture)
    reader = Reader.open(run)
    maps = [reader.ground(tmp_path / name, "nodule").map for name in ("scan.dcm", "scan.png")]
    assert maps[0].shape == (96, 80)
    assert np.allclose(maps[0], maps[1], atol=1e-4, equal_nan=True)


@pytest.mark.skipif(not NIH.is_dir(), reason="the two NIH radiographs are not here")
def test_a_real_radiograph_is_read(run: Path) -> None:
    found = Reader.open(run).ground(NIH / "00000001_000.png", "enlarged heart")
    assert found.map.shape == (512, 512)

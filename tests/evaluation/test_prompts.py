"""Where prompts come from, and what a faulty file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msvl.config.errors import DataError
from msvl.evaluation.prompts import PACKED_FILE, choose_prompts, read_prompts

GOOD = {
    "nodule": {"positive": ["a nodule"], "negative": ["no nodule", "clear"]},
    "edema": {"positive": ["e"], "negative": ["n"]},
}


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_file_wins_over_the_packed_set(tmp_path: Path) -> None:
    written(tmp_path / PACKED_FILE, {"nodule": {"positive": ["packed"], "negative": ["packed no"]}})
    file = written(tmp_path / "own.json", GOOD)
    assert choose_prompts(["nodule"], packed_folder=tmp_path, file=file).findings["nodule"].positive == ("a nodule",)
    chosen = choose_prompts(["nodule"], packed_folder=tmp_path)
    assert chosen.findings["nodule"].positive == ("packed",)
    assert chosen.origin == str(tmp_path / PACKED_FILE)


def test_the_template_is_macos(tmp_path: Path) -> None:
    chosen = choose_prompts(["Pleural_Effusion"], packed_folder=tmp_path)
    assert chosen.findings["Pleural_Effusion"].positive == ("There is pleural effusion.",)
    assert len(chosen.findings["Pleural_Effusion"].negative) == 3
    assert chosen.origin == "template"


def test_findings_without_prompts_are_left_out(tmp_path: Path) -> None:
    chosen = choose_prompts(["nodule", "mass"], file=written(tmp_path / "p.json", GOOD))
    assert list(chosen.findings) == ["nodule"]


def test_prompts_for_none_of_the_labels_is_one_sentence(tmp_path: Path) -> None:
    file = written(tmp_path / "p.json", GOOD)
    with pytest.raises(DataError) as caught:
        choose_prompts(["mass", "cyst"], file=file)
    assert str(caught.value) == (
        f"{file} has prompts for edema, nodule but the evaluated split has labels for cyst, mass: "
        "add these findings to the file or pass another one with --prompts"
    )


def test_yaml_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "nodule:\n  positive: [a nodule]\n  negative:\n    - no nodule\n", encoding="utf-8"
    )
    assert read_prompts(tmp_path / "p.yaml")["nodule"].negative == ("no nodule",)


def test_yaml_never_makes_objects(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("nodule: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(DataError, match="is not readable as YAML or JSON"):
        read_prompts(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    "entry", [{"positive": ["a"]}, {"positive": [], "negative": ["b"]}, {"positive": "a", "negative": ["b"]}, 3]
)
def test_a_faulty_finding_is_named(tmp_path: Path, entry: object) -> None:
    with pytest.raises(DataError, match="finding 'nodule' needs a list of at least one prompt under"):
        read_prompts(written(tmp_path / "p.json", {"nodule": entry}))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no prompt file .*none.yaml"):
        read_prompts(tmp_path / "none.yaml")


def test_the_digest_tells_prompt_sets_apart(tmp_path: Path) -> None:
    first = choose_prompts(["nodule"], file=written(tmp_path / "a.json", GOOD))
    again = choose_prompts(["nodule"], file=written(tmp_path / "b.json", GOOD))
    other = choose_prompts(["edema"], file=written(tmp_path / "c.json", GOOD))
    assert first.digest == again.digest != other.digest

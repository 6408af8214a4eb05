"""The evidence page says what CI does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evidence import DRILL, HOW, PARTLY, markers

SHOWN = '@pytest.mark.evidence("it works", how="cpu")\ndef test_it(case): pass\n'


@pytest.mark.parametrize(
    ("above", "where"),
    [
        ("", ""),
        ("@pytest.mark.parametrize('case', [1, 2])\n", ""),
        ("@pytest.mark.slow\n", DRILL),
        ("pytestmark = pytest.mark.slow\n", DRILL),
        ("pytestmark = [pytest.mark.ranks, pytest.mark.slow]\n", DRILL),
        ("@pytest.mark.parametrize('case', [1, pytest.param(2, marks=pytest.mark.slow)])\n", PARTLY),
        ("@pytest.mark.parametrize('case', [1, *(pytest.param(n, marks=[pytest.mark.slow]) for n in (2, 3))])\n", PARTLY),
        ("CASES = [1, pytest.param(2, marks=pytest.mark.slow)]\n@pytest.mark.parametrize('case', CASES)\n", PARTLY),
        ("def cases():\n    yield pytest.param(2, marks=pytest.mark.slow)\n@pytest.mark.parametrize('case', cases())\n", PARTLY),
        ("@pytest.mark.slow\ndef test_other(): pass\n@pytest.mark.parametrize('case', [1])\n", ""),
    ],
)  # fmt: skip
def test_what_ci_leaves_to_the_drill_is_said(above: str, where: str, tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(above + SHOWN)
    assert markers(file) == [("it works", HOW["cpu"] + where, "test_it")]

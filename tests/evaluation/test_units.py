"""Units: computed once, whatever fails or is interrupted, by whichever rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msvl.collectives.world import rank
from msvl.config.errors import DataError
from msvl.evaluation.units import Unit, UnitStore
from tests.helpers.ranks import run_ranks


def unit(value: int) -> Unit:
    return {"value": np.asarray(value)}


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    store = UnitStore(tmp_path)
    assert store.run({"a": lambda: unit(1), "b": lambda: unit(2)})["b"]["value"] == 2
    again = UnitStore(tmp_path)
    found = again.run({"a": lambda: pytest.fail("again"), "b": lambda: pytest.fail("again")})
    assert (again.computed, int(found["a"]["value"])) == (0, 1)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def killed() -> Unit:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        UnitStore(tmp_path).run({"a": lambda: unit(1), "b": killed})
    store = UnitStore(tmp_path)
    store.run({"a": lambda: pytest.fail("again"), "b": lambda: unit(2)})
    assert store.computed == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_a_damaged_unit_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"a.npz is damaged: delete it and start again"):
        UnitStore(tmp_path).run({"a": lambda: unit(1)})


def share(folder: str) -> tuple[int, list[int]]:
    store = UnitStore(Path(folder))
    found = store.run({f"u{number}": lambda number=number: unit(100 * number + rank()) for number in range(5)})
    return store.computed, [int(own["value"]) for own in found.values()]


def fail_on_one(folder: str) -> str:
    def bad() -> Unit:
        raise DataError("the disk is wet")

    try:
        UnitStore(Path(folder)).run({"a": lambda: unit(1), "b": bad})
    except DataError as error:
        return str(error)
    return "nothing"


@pytest.mark.ranks
def test_ranks_share_the_work_and_all_read_everything(tmp_path: Path) -> None:
    answers = run_ranks(2, share, str(tmp_path))
    assert [computed for computed, _ in answers] == [3, 2]
    assert answers[0][1] == answers[1][1] == [0, 101, 200, 301, 400]


@pytest.mark.ranks
def test_a_fault_on_one_rank_ends_all(tmp_path: Path) -> None:
    answers = run_ranks(2, fail_on_one, str(tmp_path))
    assert answers == ["rank 1: the disk is wet", "the disk is wet"]

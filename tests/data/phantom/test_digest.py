"""The phantom is frozen: figures of different days compare only while this digest stands."""

import pytest

from msvl.data.phantom.digest import parameters_digest

FROZEN = "f65b7c61b637aaa8035ca29828cb7a26d34ff57543badadcb24a4783acc19913"


@pytest.mark.evidence("The phantom's parameters and grammars are frozen by hash", how="cpu")
def test_parameters_and_grammars_are_frozen() -> None:
    assert parameters_digest() == FROZEN, "the phantom changed: every earlier figure is void; say so in CHANGELOG.md"

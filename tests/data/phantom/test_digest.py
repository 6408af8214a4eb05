"""The phantom is frozen: figures of different days compare only while this digest stands."""

from msvl.data.phantom.digest import parameters_digest

FROZEN = "9cbbd5dca96eed8dc29d3a03859eefe0a168eca4500eda9fbd899127aace8f3e"


def test_parameters_and_grammars_are_frozen() -> None:
    assert parameters_digest() == FROZEN, "the phantom changed: every earlier figure is void; say so in CHANGELOG.md"

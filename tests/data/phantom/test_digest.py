"""The phantom is frozen: figures of different days compare only while this digest stands."""

from msvl.data.phantom.digest import parameters_digest

FROZEN = "b1168a1d27dbb5edd1f662368095c9575622e20c837104f3b09ef07b63015d2b"


def test_parameters_and_grammars_are_frozen() -> None:
    assert parameters_digest() == FROZEN, "the phantom changed: every earlier figure is void; say so in CHANGELOG.md"

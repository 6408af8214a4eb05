"""The phantom is frozen: figures of different days compare only while this digest stands."""

from msvl.data.phantom.digest import parameters_digest

FROZEN = "3e51463d6ed1af0415a9535a9c46e698371c66cc22ddcc31dc79f38cf58e9064"


def test_parameters_and_grammars_are_frozen() -> None:
    assert parameters_digest() == FROZEN, "the phantom changed: every earlier figure is void; say so in CHANGELOG.md"

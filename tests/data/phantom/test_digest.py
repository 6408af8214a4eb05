"""The phantom is frozen: figures of different days compare only while this digest stands."""

from msvl.data.phantom.digest import parameters_digest

FROZEN = "827a048816f74aed0d1ada4646baeb3d0e74039bee7c2cbcdcac1ca0ae88f7ce"


def test_parameters_and_grammars_are_frozen() -> None:
    assert parameters_digest() == FROZEN, "the phantom changed: every earlier figure is void; say so in CHANGELOG.md"

"""What can go wrong with a stored object, as one sentence for the user and one word for the program."""

from __future__ import annotations

from typing import Literal

from msvl.config.errors import DataError

Kind = Literal["missing", "forbidden", "short", "unavailable", "unsupported"]
"""Why a read or a write failed.

`missing` and `forbidden`: the store says so, asked once. `short`: the object ends before the range does. `unavailable`: it
could not be had in the attempts allowed. `unsupported`: this store or this machine cannot do what was asked.
"""

CURES: dict[Kind, str] = {
    "missing": "check data.path, or copy the set there again",
    "forbidden": "check the credentials of this machine (docs/storage.md) and that they may read it",
    "short": "copy the object there again, then find others with `msvl data verify`",
    "unavailable": "check the store and the network, or raise the attempts or the time-out (docs/storage.md)",
    "unsupported": "see docs/storage.md for what each kind of store can do",
}
"""What the user can do, by kind."""


class StorageError(DataError):
    """An object cannot be read or written. The text names the URL (without credentials), the range and the cure."""

    def __init__(self, message: str, kind: Kind) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        """Why, for code that acts on it: a substitute for a short object, a stop for a missing one."""

    def __reduce__(self) -> tuple[type[StorageError], tuple[str, Kind]]:
        """Travel between processes: loader workers pickle what they raise."""
        return type(self), (str(self), self.kind)


class Transient(Exception):
    """An attempt failed in a way that may pass: retried. Never leaves msvl.data.storage."""


class Permanent(Exception):
    """An attempt failed in a way that will not pass: raised at once. Never leaves msvl.data.storage."""

    def __init__(self, kind: Kind, reason: str, cure: str | None = None) -> None:
        super().__init__(reason)
        self.kind: Kind = kind
        self.cure = cure

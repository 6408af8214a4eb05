"""Errors by who can act: each is one sentence (what, where, the cure) that a command prints before exit code 2."""

from typing import Self

from msvl.config.exit_codes import SUPERSEDED, USERS_TO_FIX


class MsvlError(Exception):
    """A fault that the user can fix. Commands print it without a traceback and exit with `exit_code`."""

    exit_code = USERS_TO_FIX
    agreed = False
    """Whether every rank raises this very error, so that rank 0 alone prints it."""

    def on_all_ranks(self) -> Self:
        """Return this error as one that every rank raises."""
        self.agreed = True
        return self


class ConfigError(MsvlError):
    """A configuration file or override is wrong: names the file, the key, what was found and what was expected."""


class DataError(MsvlError):
    """A source, a shard or a record is wrong: names the file, the record and the cure."""


class CheckpointError(MsvlError):
    """A checkpoint is missing, incomplete, does not fit or could not be written: names the folder and the cure."""


class ClusterError(MsvlError):
    """The ranks, the launcher or the machine do not fit the run: names what was found and what would fit."""


class SupersededError(MsvlError):
    """A newer attempt has taken the run folder: this one writes nothing more and ends."""

    exit_code = SUPERSEDED

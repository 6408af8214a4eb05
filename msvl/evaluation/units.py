"""Work cut into units that are files: each is computed by one rank, once, and read by all.

A unit depends on its name and on what the folder's name says (model, data, card), never on the number of ranks. So any number
of ranks gives the same result, a killed evaluation goes on where it stopped, and a repeated one only reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msvl.collectives.agree import first_message, from_rank_zero
from msvl.collectives.world import rank, world_size
from msvl.config.errors import DataError, MsvlError

Unit = dict[str, np.ndarray]
"""What a unit leaves: named arrays."""


class UnitStore:
    """A folder of finished units."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which every rank must see; it is made when the first unit is written."""
        self.folder = folder
        self.computed = 0
        """Units that this rank has computed, not read."""

    def run(self, units: Mapping[str, Callable[[], Unit]]) -> dict[str, Unit]:
        """Collective. Compute what is missing, rank by rank in turn, and return every unit.

        Raises:
            DataError: A unit failed on some rank (its message), or could not be written.
        """
        # Rank 0 looks: two ranks that look at different moments would share the work differently.
        missing = from_rank_zero([name for name in units if not self._path(name).is_file()])
        fault = None
        try:
            for name in missing[rank() :: world_size()]:
                self._write(name, units[name]())
                self.computed += 1
        except MsvlError as error:
            fault = error
        message = first_message(str(fault) if fault else None)
        if fault is not None:
            raise fault
        if message is not None:
            raise DataError(message)
        return {name: self._read(name) for name in units}

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _write(self, name: str, content: Unit) -> None:
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as stream:
                np.savez(stream, **content)  # type: ignore[arg-type]
            os.replace(temporary, path)
        except OSError as error:
            raise DataError(f"{path} could not be written ({error.strerror}): free space and start again") from error

    def _read(self, name: str) -> dict[str, Any]:
        path = self._path(name)
        try:
            with np.load(path, allow_pickle=False) as content:
                return dict(content)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is damaged: delete it and start again") from error

"""Masks of a table's images: one file per image, named in a column."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from msvl.config.errors import DataError


@dataclass(frozen=True)
class TableMasks:
    """Where masks are and what they show."""

    folder: Path
    column: str
    """File name, relative to the folder. Rows without one are left out, as nobody says that theirs is empty."""
    name: str = "mask"
    """What the masks show."""

    def read(self, name: str, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
        """Return a mask [H, W], true where the file is not 0.

        Args:
            name: Cell of the row.
            size: (H, W) of the image.
            where: Table and row.

        Raises:
            DataError: The cell is empty, or the file is missing, no image, or of another size.
        """
        path = self.folder / name
        if not name:
            raise DataError(f"{where}: the column '{self.column}' is empty, so its mask is not known")
        found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
        if found is None:
            raise DataError(
                f"{where}: its mask is missing or no image: see the folder {self.folder.name}/ and column '{self.column}'"
            )
        if found.shape != size:
            raise DataError(
                f"{where}: its mask has {found.shape[1]} x {found.shape[0]} px and its image {size[1]} x {size[0]}"
            )
        return found > 0

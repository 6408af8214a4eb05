"""How sure it is which image of NIH ChestX-ray14 an image of RSNA Pneumonia is, where it was found by comparing pixels."""

from __future__ import annotations

import math
from typing import Any

from msvl.config.errors import DataError
from msvl.data.shown import shown_cell

ERROR_COLUMN = "mse"
"""Column of a mapping: mean squared error of the grey levels of both images."""
DOUBTFUL_ABOVE = 10.0
"""TorchXRayVision's cut-off (scripts/CrossReferenceWithNIH/cxrmatch.py): pairs of one image have about 2, others more than 30. Of
its 26,684 matches 98 are above it."""
WARNING = "%s: %d of its matches have a mean squared error above 10: another image of NIH, and so another patient, may be the right one"


def is_doubtful(error: Any, where: str) -> bool:
    """Return whether a match is above the cut-off; one without an error is not known to be. Raises DataError naming the row."""
    cell = "" if error is None else str(error).strip()
    if not cell:
        return False
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise DataError(f"{where}: {ERROR_COLUMN} is {shown_cell(cell)}; expected the mean squared error of the match")
    return value > DOUBTFUL_ABOVE

"""What a label of "uncertain" counts as: the policies of the CheXpert paper and its followers. Pure functions of arrays.

N images. States: 1 present, 0 absent, UNCERTAIN, UNKNOWN (blank, which is not 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from msvl.config.errors import DataError
from msvl.data.label_reports import plain_name

Policy = Literal["ignore", "ones", "zeros", "chexpert"]
UNCERTAIN, UNKNOWN = -1, -2
CHEXPERT_ONES = frozenset(("atelectasis", "edema", "pleural effusion"))
"""Findings whose uncertain labels count as present in the mix that GLoRIA and MGCA use for CheXpert."""
CHEXPERT_ZEROS = frozenset(("cardiomegaly", "consolidation"))
"""Those that count as absent there."""


def resolve_uncertain(states: NDArray[np.int64], finding: str, policy: Policy) -> NDArray[np.int64]:
    """Return [N] states without UNCERTAIN.

    Args:
        states: [N] of one finding.
        finding: Its name, in any case, with blanks or underscores.
        policy: `ones` and `zeros` are U-Ones and U-Zeros (Irvin et al. 2019); `ignore` makes them UNKNOWN, so that they count
            nowhere; `chexpert` is the mix: Atelectasis, Edema and Pleural Effusion as ones, Cardiomegaly and Consolidation as
            zeros, others ignored.

    Raises:
        DataError: there is no such policy, or a state is none of the four.
    """
    unexpected = set(np.unique(states).tolist()) - {1, 0, UNCERTAIN, UNKNOWN}
    if unexpected:
        raise DataError(f"{finding}: labels {sorted(unexpected)}; expected 1, 0, {UNCERTAIN} or {UNKNOWN}")
    return np.where(states == UNCERTAIN, _replacement(finding, policy), states)


def resolve_all(labels: Mapping[str, NDArray[np.int64]], policy: Policy) -> dict[str, NDArray[np.int64]]:
    """Return finding -> [N] states without UNCERTAIN. Raises as `resolve_uncertain`."""
    return {finding: resolve_uncertain(states, finding, policy) for finding, states in labels.items()}


def blank_as_absent(states: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return states whose UNKNOWN are 0, as the published CheXpert protocols have it (`fillna(0)`)."""
    return np.where(states == UNKNOWN, 0, states)


def _replacement(finding: str, policy: Policy) -> int:
    if policy not in get_args(Policy):
        raise DataError(
            f"there is no policy {policy!r} for uncertain labels: choose one of {', '.join(get_args(Policy))}"
        )
    name = plain_name(finding)
    ones = policy == "ones" or (policy == "chexpert" and name in CHEXPERT_ONES)
    zeros = policy == "zeros" or (policy == "chexpert" and name in CHEXPERT_ZEROS)
    return 1 if ones else 0 if zeros else UNKNOWN

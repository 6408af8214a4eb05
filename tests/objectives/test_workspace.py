"""Shared memory of blocks."""

from __future__ import annotations

import torch

from msvl.objectives.workspace import Workspace


def test_a_name_stands_for_the_same_memory() -> None:
    workspace = Workspace(torch.zeros(1, dtype=torch.float64))
    first = workspace.take("logits", 4, 5)
    again = workspace.take("logits", 2, 3)
    assert again.data_ptr() == first.data_ptr()
    assert (again.shape, again.dtype) == ((2, 3), torch.float64)
    assert workspace.take("gradient", 2, 3).data_ptr() != first.data_ptr()


def test_more_than_before_is_given_too() -> None:
    workspace = Workspace(torch.zeros(1))
    workspace.take("logits", 2)
    assert workspace.take("logits", 3, 7).fill_(1.0).sum() == 21

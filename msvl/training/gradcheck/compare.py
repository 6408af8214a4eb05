"""One process against N: ratios and differences of losses and gradients, and what they mean in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

EXACT_DIRECTION = 0.99999


@dataclass(frozen=True)
class Measured:
    """What one world size found."""

    losses: dict[str, float]
    """Mean over ranks."""
    gradients: dict[str, dict[str, Tensor]]
    """Loss -> parameter -> gradient, averaged over ranks."""


@dataclass(frozen=True)
class Line:
    """A group of parameters under one loss."""

    loss: str
    group: str
    ratio: float
    """Length of the N-rank gradient along the true one, as a share of it."""
    difference: float
    """Norm of the difference as a share of the true gradient's norm."""
    cosine: float
    right: bool

    def words(self) -> str:
        """Say it."""
        if self.right:
            return f"{self.group} gradients are exact"
        if self.cosine > EXACT_DIRECTION:
            return f"{self.group} gradients x {self.ratio:.2f}"
        return (
            f"{self.group} gradients point elsewhere (cosine {self.cosine:.2f}, x {self.ratio:.2f} along the true one)"
        )


@dataclass(frozen=True)
class Verdict:
    """The comparison of one process and N ranks."""

    ranks: int
    tolerance: float
    values: dict[str, tuple[float, float]]
    """Loss -> value on one process and on N ranks."""
    lines: list[Line]

    @property
    def right(self) -> bool:
        """Whether everything is within the tolerance."""
        return all(line.right for line in self.lines) and all(self.value_right(name) for name in self.values)

    def value_right(self, name: str) -> bool:
        """Whether a loss's value is within the tolerance."""
        one, many = self.values[name]
        return abs(many - one) <= self.tolerance * abs(one) + 1e-7

    def sentences(self) -> list[str]:
        """Return what was found, in words."""
        found = []
        for loss, (one, many) in self.values.items():
            lines = [line for line in self.lines if line.loss == loss]
            wrong = [line for line in lines if not line.right]
            if not self.value_right(loss):
                found.append(f"{loss}: the value is {many:.6g} on {self.ranks} ranks and {one:.6g} on one")
            if wrong:
                said = ", ".join(line.words() for line in lines)
                found.append(f"{loss}: {said}")
                if len({round(line.ratio, 2) for line in lines}) > 1 or any(
                    line.cosine <= EXACT_DIRECTION for line in wrong
                ):
                    found.append(f"{loss}: the mix with other losses changes with the number of GPUs")
                elif len({round(line.ratio, 2) for line in lines}) == 1:
                    found.append(
                        f"{loss}: all by one factor, which Adam hides as long as no other loss is added and nothing is clipped"
                    )
        return found or [f"{self.ranks} ranks give the losses and gradients of one process"]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        plain = asdict(self)
        for line in plain["lines"]:  # JSON knows no infinity: a gradient where the true one is zero
            line |= {name: line[name] if isfinite(line[name]) else None for name in ("ratio", "difference", "cosine")}
        return plain | {"right": self.right, "sentences": self.sentences()}

    def table(self) -> str:
        """Return it for a terminal."""
        rows = [("loss", "parameters", "ratio", "difference", "")]
        for loss, (one, many) in self.values.items():
            rows.append((loss, "(value)", f"{many / one if one else 1:.6f}", f"{abs(many - one) / (abs(one) or 1):.1e}",
                         "" if self.value_right(loss) else "WRONG"))  # fmt: skip
            rows += [
                ("", line.group, f"{line.ratio:.6f}", f"{line.difference:.1e}", "" if line.right else "WRONG")
                for line in self.lines
                if line.loss == loss
            ]
        widths = [max(len(row[place]) for row in rows) for place in range(5)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )


def compare(
    one: Measured, many: Measured, *, ranks: int, tolerance: float, groups: dict[str, str], floor: float = 1e-6
) -> Verdict:
    """Compare, group by group.

    Args:
        one: Of one process.
        many: Of N ranks.
        ranks: N.
        tolerance: Relative, of values and of the gradients of a group.
        groups: Parameter -> group, in the order of the table.
        floor: This share of the whole gradient comes on top, for parameters whose true gradient is zero.
    """
    lines = []
    for loss, gradients in one.gradients.items():
        whole = torch.cat([gradient.flatten().double() for gradient in gradients.values()]).norm().item()
        for group in dict.fromkeys(groups.values()):
            names = [name for name in gradients if groups[name] == group]
            true = torch.cat([gradients[name].flatten().double() for name in names])
            found = torch.cat([many.gradients[loss][name].flatten().double() for name in names])
            norm, gap = true.norm().item(), (found - true).norm().item()
            if norm <= 1e-12 * whole and found.norm().item() <= 1e-12 * whole:
                continue  # this loss does not reach these parameters
            lines.append(
                Line(
                    loss=loss,
                    group=group,
                    ratio=float(found @ true) / norm**2 if norm else float("inf"),
                    difference=gap / norm if norm else float("inf"),
                    cosine=float(found @ true) / (norm * found.norm().item()) if norm and found.any() else 0.0,
                    right=gap <= tolerance * norm + floor * whole,
                )
            )
    values = {name: (one.losses[name], many.losses[name]) for name in one.losses}
    return Verdict(ranks=ranks, tolerance=tolerance, values=values, lines=lines)

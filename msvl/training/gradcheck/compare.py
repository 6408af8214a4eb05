"""One process against N: ratios and differences of losses and gradients, and what they mean in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf, isfinite, isinf, isnan
from typing import Any

import torch
from torch import Tensor

EXACT_DIRECTION = 0.99999


def gradient_of(leaf: Tensor) -> Tensor:
    """Return a copy of a leaf's gradient, zero where it has none."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.detach().clone()


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

    @property
    def elsewhere(self) -> bool:
        """Whether it points in another direction than the true one, or there is none to follow."""
        return not self.cosine > EXACT_DIRECTION

    def words(self) -> str:
        """Say it."""
        if self.right:
            return f"{self.group} gradients are exact"
        if isinf(self.ratio):
            return f"{self.group} gradients are not zero, as they are on one process"
        if not isfinite(self.ratio):
            return f"{self.group} gradients are not finite"
        if not self.elsewhere:
            return f"{self.group} gradients x {factor(self.ratio)}"
        return (
            f"{self.group} gradients point elsewhere "
            f"(cosine {factor(self.cosine)}, x {factor(self.ratio)} along the true one)"
        )


def factor(value: float) -> str:
    """Return a ratio in two decimals, or in as many as tell it from 1."""
    short = f"{value:.2f}"
    return f"{value:.6f}" if short == "1.00" else short


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
                found += [f"{loss}: {said}" for said in _meaning(lines, wrong)]
        return found or [f"{self.ranks} ranks give the losses and gradients of one process"]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        plain = asdict(self)
        # JSON knows no infinity (a gradient where the true one is zero) and no NaN.
        plain["values"] = {name: [_plain(value) for value in pair] for name, pair in self.values.items()}
        for line in plain["lines"]:
            line |= {name: _plain(line[name]) for name in ("ratio", "difference", "cosine")}
        return plain | {"right": self.right, "sentences": self.sentences()}

    def table(self) -> str:
        """Return it for a terminal."""
        rows = [("loss", "parameters", "ratio", "difference", "")]
        for loss, (one, many) in self.values.items():
            ratio = many / one if one else (1.0 if many == one else inf)
            rows.append((loss, "(value)", f"{ratio:.6f}", f"{abs(many - one) / (abs(one) or 1):.1e}",
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


def _meaning(lines: list[Line], wrong: list[Line]) -> list[str]:
    """Return what one loss's wrong gradients do to a training, in words."""
    if any(isnan(line.ratio) for line in wrong):
        return []
    factors = {factor(line.ratio) for line in lines if isfinite(line.ratio)}
    if len(factors) > 1 or any(line.elsewhere for line in wrong):
        return ["the mix with other losses changes with the number of GPUs"]
    return ["all by one factor, which Adam hides as long as no other loss is added and nothing is clipped"]


def _plain(value: float) -> float | None:
    return value if isfinite(value) else None


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
        flat = torch.cat([gradient.flatten().double() for gradient in gradients.values()])
        whole = flat.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).norm().item()
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

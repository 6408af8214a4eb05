"""Time and memory of one forward and backward pass against the number of pairs, measured and continued by formula.

    python benchmarks/loss_scaling.py          five minutes; CSV and a plot into benchmarks/results/
    python benchmarks/loss_scaling.py --again FILE.csv      formulas and plot of points measured before

Local: 196 patches, 768 channels, 12 units a report, all pairs on one rank; global: 512 channels. Each form is measured as
far as half a minute a pass allows. Seconds are a B + b B^2, fitted to the points. Memory above inputs and
gradients is what the code holds at its peak, counted in `memory`. Where one misses a measured point by more than 10 %, the
script says so and fails.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import global_loss, local_loss  # noqa: E402
from benchmarks.measuring import machine, matmul_rate, median_seconds, peak_of, write_csv, write_rows  # noqa: E402
from msvl.objectives.blocks import BLOCK_ELEMENTS  # noqa: E402
from msvl.objectives.local_tiles import CPU_TILE_ELEMENTS  # noqa: E402

PATCHES, LOCAL_CHANNELS, UNITS, GLOBAL_CHANNELS = 196, 768, local_loss.UNITS, 512
TOLERANCE = 0.1
FLOAT = 4 / 1e9
"""GB of a number."""


Row = dict[str, str | int | float]


class Line(NamedTuple):
    """One form of one loss."""

    name: str
    """In the script of its loss."""
    loss: Callable[..., Tensor]
    memory: Callable[[int], float]
    """Pairs -> GB above inputs and gradients."""
    measured: tuple[int, ...]
    """Pairs."""
    colour: str


def local_msvl(pairs: int, *, form: str) -> float:
    """Tiles of one size, and a second copy of units and of their gradients in the tiles' order."""
    reports = min(pairs, CPU_TILE_ELEMENTS // (PATCHES * UNITS))
    images = max(1, CPU_TILE_ELEMENTS // (reports * UNITS * PATCHES))
    rows = images * reports * UNITS
    tile = rows * (5 * PATCHES if form == "gram" else 3 * PATCHES + 2 * LOCAL_CHANNELS)
    gram = 2 * images * PATCHES**2 if form == "gram" else 0
    return FLOAT * (tile + gram + 2 * pairs * UNITS * LOCAL_CHANNELS)


def local_loop(pairs: int) -> float:
    """Two softmaxes and the context of every pair and unit; two more gradients of the patches."""
    per_pair = UNITS * (2 * PATCHES + LOCAL_CHANNELS)
    return FLOAT * (pairs**2 * per_pair + 2 * pairs * PATCHES * LOCAL_CHANNELS)


def local_einsum(pairs: int) -> float:
    """What autograd keeps of a tile of eight reports, and one more gradient of the patches."""
    return FLOAT * pairs * (8 * UNITS * 2 * (PATCHES + LOCAL_CHANNELS) + PATCHES * LOCAL_CHANNELS)


def global_msvl(pairs: int) -> float:
    """Two blocks of logits, and the rows of a block times the scale."""
    block = min(pairs**2, BLOCK_ELEMENTS)
    return FLOAT * (2 * block + block // pairs * GLOBAL_CHANNELS)


def global_plain(pairs: int) -> float:
    """Four matrices at a moment when one of the two gradients is not there yet."""
    return FLOAT * (4 * pairs**2 - pairs * GLOBAL_CHANNELS)


def lines() -> dict[str, dict[str, Line]]:
    """Return what is measured, by loss and form."""
    local, both = local_loss.LOSSES, global_loss.LOSSES
    in_context, in_gram = (partial(local_msvl, form=form) for form in ("context", "gram"))
    return {
        "local": {
            "loop": Line("loop", local["loop"], local_loop, (64, 128, 192, 256), "#b04a3a"),
            "einsum": Line("einsum", local["einsum"], local_einsum, (128, 192, 256), "#c99a2e"),
            "context": Line("context", local["context"], in_context, (64, 128, 192, 256), "#6aa84f"),
            "gram": Line("gram", local["gram"], in_gram, (64, 128, 256, 384), "#2b6c99"),
        },
        "global": {
            "plain": Line("plain", both["plain"], global_plain, (4096, 8192, 16384, 24576), "#b04a3a"),
            "chunked": Line("ours", both["ours"], global_msvl, (4096, 8192, 16384, 32768), "#2b6c99"),
        },
    }


ROUNDS_OF_ALL_PAIRS = {"local": 2 * 128**2, "global": 2 * 8192**2}
"""Small sizes are quick and need more rounds: rounds times pairs squared."""
LAST = {"local": 2048, "global": 65536}


def leaves_of(loss: str, pairs: int) -> tuple[Tensor, ...]:
    """Return inputs of that many pairs."""
    if loss == "local":
        return local_loss.make((pairs, PATCHES, LOCAL_CHANNELS))
    return global_loss.make(pairs, GLOBAL_CHANNELS)


def peak_at(loss: str, name: str, pairs: int) -> float:
    """Return the peak in GB of a form at that many pairs."""
    if loss == "local":
        return peak_of(local_loss.__file__, name, pairs, PATCHES, LOCAL_CHANNELS)
    return peak_of(global_loss.__file__, name, pairs, GLOBAL_CHANNELS)


def fitted(pairs: list[int], seconds: list[float]) -> tuple[float, float]:
    """Return a, b >= 0 of a B + b B^2 with the least relative errors."""
    counts, times = np.array(pairs, float), np.array(seconds)
    terms = np.stack([counts / times, counts**2 / times], axis=1)
    a, b = np.linalg.lstsq(terms, np.ones(len(counts)), rcond=None)[0]
    if a >= 0:
        return float(a), float(b)
    return 0.0, float(terms[:, 1].sum() / (terms[:, 1] ** 2).sum())


def measured(loss: str, form: str, line: Line) -> list[Row]:
    """Return the measured rows of a form."""
    rows: list[Row] = []
    for pairs in line.measured:
        leaves = leaves_of(loss, pairs)
        rounds = max(1, min(3, ROUNDS_OF_ALL_PAIRS[loss] // pairs**2))
        seconds = median_seconds({form: line.loss}, leaves, rounds=rounds)[form]
        del leaves
        rows.append(row_of(loss, form, pairs, "measured", seconds, peak_at(loss, line.name, pairs)))
        print(rows[-1], flush=True)
    return rows


def continued(loss: str, form: str, line: Line, points: list[Row]) -> list[Row]:
    """Return the formula's rows: where it was measured, and on to the last number of pairs."""
    a, b = fitted([int(row["pairs"]) for row in points], [float(row["seconds"]) for row in points])
    first = min(int(row["pairs"]) for row in points)
    places = {int(row["pairs"]) for row in points} | {LAST[loss] >> shift for shift in range(6)}
    return [
        row_of(loss, form, pairs, "formula", a * pairs + b * pairs**2, line.memory(pairs))
        for pairs in sorted(places)
        if pairs >= first
    ]


def row_of(loss: str, form: str, pairs: int, kind: str, seconds: float, gigabytes: float) -> Row:
    """Return a row of the CSV."""
    return {
        "loss": loss, "form": form, "pairs": pairs, "kind": kind, "seconds": round(seconds, 3), "gb": round(gigabytes, 4)
    }  # fmt: skip


def off(rows: list[Row]) -> list[str]:
    """Return, in words, where a formula misses a measured point by more than the tolerance."""
    formula = {(row["loss"], row["form"], int(row["pairs"])): row for row in rows if row["kind"] == "formula"}
    found = []
    for row in (row for row in rows if row["kind"] == "measured"):
        key = (row["loss"], row["form"], int(row["pairs"]))
        for unit in ("seconds", "gb"):
            ratio = float(formula[key][unit]) / float(row[unit])
            if abs(ratio - 1) > TOLERANCE:
                found.append(f"{key}: {unit} by the formula are {ratio:.2f} times those measured")
    return found


def draw(rows: list[Row], target: Path, remark: str) -> None:
    """Draw points as measured and formulas dashed."""
    import matplotlib.pyplot as plt  # slow to load

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex="col")
    for column, (loss, forms) in enumerate(lines().items()):
        for form, line in forms.items():
            own = [row for row in rows if (row["loss"], row["form"]) == (loss, form)]
            for axis, unit in ((axes[0][column], "seconds"), (axes[1][column], "gb")):
                for kind, style in (("measured", {"marker": "o", "linestyle": ""}), ("formula", {"linestyle": "--"})):
                    points = [(float(r["pairs"]), float(r[unit])) for r in own if r["kind"] == kind]
                    label = form if kind == "measured" else None
                    axis.plot(*zip(*points, strict=True), color=line.colour, label=label, **style)
                axis.set_xscale("log", base=2)
                axis.set_yscale("log")
                axis.grid(alpha=0.3)
        axes[0][column].set_title(f"{loss} loss")
        axes[1][column].set_xlabel("pairs B")
        axes[0][column].legend()
    axes[0][0].set_ylabel("seconds, forward + backward")
    axes[1][0].set_ylabel("peak GB above inputs and gradients")
    figure.suptitle(f"Points are measured, dashes are the formula\n{remark}", fontsize=9)
    figure.tight_layout()
    figure.savefig(target, dpi=110)


def main() -> None:
    """Measure, compare with the formulas, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", type=Path, help="a CSV that this script wrote")
    arguments = parser.parse_args()
    if arguments.again:
        with open(arguments.again, encoding="utf-8") as stream:
            remark = stream.readline().removeprefix("# ").strip()
            points: list[Row] = [dict(row) for row in csv.DictReader(stream) if row["kind"] == "measured"]
    else:
        for loss, leaves in (("local", local_loss.make((8, 16, 16))), ("global", global_loss.make(64, 16))):
            median_seconds(
                {form: line.loss for form, line in lines()[loss].items()}, leaves, rounds=1
            )  # libraries load
        remark = f"{machine()}, matmul {matmul_rate():.0f} GFLOP/s"
        print(remark)
        points = [row for loss, forms in lines().items() for form, line in forms.items() for row in measured(loss, form, line)]  # fmt: skip
    rows = list(points)
    for loss, forms in lines().items():
        for form, line in forms.items():
            rows += continued(loss, form, line, [row for row in points if (row["loss"], row["form"]) == (loss, form)])
    target = arguments.again or write_csv("loss_scaling", rows, remark)
    if arguments.again:
        write_rows(target, rows, remark)
    draw(rows, target.with_suffix(".png"), remark)
    if faults := off(rows):
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()

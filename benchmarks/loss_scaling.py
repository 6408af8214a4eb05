"""Time and memory of one forward and backward pass against the number of pairs, measured and continued by formula.

    python benchmarks/loss_scaling.py --seconds              about twenty minutes, with the machine alone
    python benchmarks/loss_scaling.py --memory [LOSS/FORM]   about forty minutes, or one form; other programs do not matter
    python benchmarks/loss_scaling.py                        formulas and plot of the points measured before

All three write into results/loss_scaling-DATE.csv and its plot, --csv another file. Local: 196 patches, 768 channels, 12
units a report, all pairs on one rank; global: 512 channels. Every point is measured in a fresh process, as far as 16 GB and
ten minutes a point allow, seconds to about a minute a pass, the fastest of three passes or more. Seconds are a B + b B^2,
fitted to the points. Memory above inputs and gradients is what the code holds at its peak, counted in `memory`. Where one
misses a measured point by more than 10 %, the script says so and fails.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import global_loss, local_loss  # noqa: E402
from benchmarks.measuring import RESULTS, machine, matmul_rate, peak_of, seconds_of, write_rows  # noqa: E402
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
    memory: Callable[[int], float]
    """Pairs -> GB above inputs and gradients."""
    timed: tuple[int, ...]
    """Pairs of which the seconds are measured."""
    weighed: tuple[int, ...]
    """Pairs of which the memory is measured."""
    colour: str


def local_msvl(pairs: int, *, form: str) -> float:
    """Tiles of one size, and a second copy of units and of their gradients in the tiles' order."""
    reports = min(pairs, CPU_TILE_ELEMENTS // (PATCHES * UNITS))
    images = max(1, CPU_TILE_ELEMENTS // (reports * UNITS * PATCHES))
    rows = images * reports * UNITS
    tile = rows * (5 * PATCHES if form == "gram" else 3 * PATCHES + 2 * LOCAL_CHANNELS)
    gram = 2 * images * PATCHES**2 if form == "gram" else 0
    return FLOAT * (tile + gram + 2 * pairs * UNITS * LOCAL_CHANNELS)


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


LINES: dict[str, dict[str, Line]] = {
    "local": {
        "loop": Line(
            "loop",
            partial(local_loss.loop_memory, patches=PATCHES, channels=LOCAL_CHANNELS),
            (64, 96, 128, 256),
            (64, 128, 256, 384),
            "#b04a3a",
        ),
        "einsum": Line("einsum", local_einsum, (64, 128, 256, 384), (64, 128, 256, 512), "#c99a2e"),
        "context": Line(
            "context", partial(local_msvl, form="context"), (64, 128, 256, 512), (64, 128, 256, 512), "#6aa84f"
        ),
        "gram": Line(
            "gram", partial(local_msvl, form="gram"), (64, 128, 256, 512), (64, 128, 256, 512, 1024), "#2b6c99"
        ),
    },
    "global": {
        "plain": Line("plain", global_plain, (4096, 8192, 16384, 24576), (4096, 8192, 16384, 24576), "#b04a3a"),
        "chunked": Line("ours", global_msvl, (4096, 8192, 16384, 32768), (4096, 8192, 16384, 32768, 65536), "#2b6c99"),
    },
}
"""By loss and form."""
SCRIPTS = {
    "local": (local_loss.__file__, (PATCHES, LOCAL_CHANNELS)),
    "global": (global_loss.__file__, (GLOBAL_CHANNELS,)),
}
"""Loss -> its script, and the sizes that stand after the pairs."""
LAST = {"local": 2048, "global": 65536}


def fitted(pairs: list[int], seconds: list[float]) -> tuple[float, float]:
    """Return a, b >= 0 of a B + b B^2 with the least relative errors."""
    counts, times = np.array(pairs, float), np.array(seconds)
    terms = np.stack([counts / times, counts**2 / times], axis=1)
    a, b = np.linalg.lstsq(terms, np.ones(len(counts)), rcond=None)[0]
    if a >= 0:
        return float(a), float(b)
    return 0.0, float(terms[:, 1].sum() / (terms[:, 1] ** 2).sum())


def measured(what: str, loss: str, form: str) -> Iterator[Row]:
    """Yield rows with the seconds or the GB of one form, each point from a fresh process."""
    line = LINES[loss][form]
    script, sizes = SCRIPTS[loss]
    for pairs in line.timed if what == "seconds" else line.weighed:
        found = (seconds_of if what == "seconds" else peak_of)(script, line.name, pairs, *sizes)
        row = row_of(loss, form, pairs, "measured", **{what: found})
        print(row, flush=True)
        yield row


def continued(loss: str, form: str, points: list[Row]) -> list[Row]:
    """Return the formula's rows: where it was measured, and on to the last number of pairs."""
    if not points:
        return []
    timed = [row for row in points if row["seconds"] != ""]
    a, b = fitted([int(row["pairs"]) for row in timed], [float(row["seconds"]) for row in timed]) if timed else (0, 0)
    first = min(int(row["pairs"]) for row in points)
    places = {int(row["pairs"]) for row in points} | {LAST[loss] >> shift for shift in range(6)}
    memory = LINES[loss][form].memory
    return [
        row_of(loss, form, pairs, "formula", seconds=a * pairs + b * pairs**2 if timed else None, gb=memory(pairs))
        for pairs in sorted(places)
        if pairs >= first
    ]


def row_of(
    loss: str, form: str, pairs: int, kind: str, *, seconds: float | None = None, gb: float | None = None
) -> Row:
    """Return a row of the CSV; what was not measured stays empty."""
    return {
        "loss": loss, "form": form, "pairs": pairs, "kind": kind,
        "seconds": "" if seconds is None else round(seconds, 3), "gb": "" if gb is None else round(gb, 4),
    }  # fmt: skip


def off(rows: list[Row]) -> list[str]:
    """Return, in words, where a formula misses a measured point by more than the tolerance."""
    formula = {(row["loss"], row["form"], int(row["pairs"])): row for row in rows if row["kind"] == "formula"}
    found = []
    for row in (row for row in rows if row["kind"] == "measured"):
        key = (row["loss"], row["form"], int(row["pairs"]))
        for unit in (unit for unit in ("seconds", "gb") if row[unit] != "" and key in formula):
            ratio = float(formula[key][unit]) / float(row[unit])
            if abs(ratio - 1) > TOLERANCE:
                found.append(f"{key}: {unit} by the formula are {ratio:.2f} times those measured")
    return found


def draw(rows: list[Row], target: Path, remark: str) -> None:
    """Draw points as measured and formulas dashed."""
    import matplotlib.pyplot as plt  # slow to load

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex="col")
    for column, (loss, forms) in enumerate(LINES.items()):
        for form, line in forms.items():
            own = [row for row in rows if (row["loss"], row["form"]) == (loss, form)]
            for axis, unit in ((axes[0][column], "seconds"), (axes[1][column], "gb")):
                for kind, style in (("measured", {"marker": "o", "linestyle": ""}), ("formula", {"linestyle": "--"})):
                    points = [(float(r["pairs"]), float(r[unit])) for r in own if r["kind"] == kind and r[unit] != ""]
                    if not points:
                        continue
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


def joined(before: list[Row], found: list[Row]) -> list[Row]:
    """Return the measured rows with one row per point; what was found now takes the place of what was there."""
    rows = {(row["loss"], row["form"], int(row["pairs"])): dict(row) for row in before if row["kind"] == "measured"}
    for row in found:
        place = rows.setdefault((row["loss"], row["form"], int(row["pairs"])), dict(row))
        place.update({unit: row[unit] for unit in ("seconds", "gb") if row[unit] != ""})
    return [rows[key] for key in sorted(rows)]


def remark_of(before: str, what: str | None) -> str:
    """Return the first line of the CSV: the machine, and its rate when the seconds were measured."""
    if what == "seconds" or not before:
        return f"{machine()}, matmul {matmul_rate():.0f} GFLOP/s"
    return before


def main() -> None:
    """Measure what is asked for, compare with the formulas, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", action="store_true", help="measure the seconds of every form")
    parser.add_argument(
        "--memory", nargs="?", const="/", metavar="LOSS/FORM", help="measure memory, of one form or all"
    )
    parser.add_argument("--csv", type=Path, default=RESULTS / f"loss_scaling-{datetime.now(UTC):%Y-%m-%d}.csv")
    arguments = parser.parse_args()
    remark, points = "", list[Row]()
    if arguments.csv.is_file():
        with open(arguments.csv, encoding="utf-8") as stream:
            remark = stream.readline().removeprefix("# ").strip()
            points = [dict(row) for row in csv.DictReader(stream)]
    what = "seconds" if arguments.seconds else "gb" if arguments.memory else None
    remark = remark_of(remark, what)
    for loss, forms in LINES.items():
        for form in forms:
            if what == "seconds" or (what == "gb" and arguments.memory in ("/", f"{loss}/{form}")):
                for row in measured(what, loss, form):
                    points = joined(points, [row])
                    write_rows(arguments.csv, points, remark)  # what was measured stays when the rest is cut off
    rows = joined(points, [])
    for loss, forms in LINES.items():
        for form in forms:
            rows += continued(loss, form, [row for row in rows if (row["loss"], row["form"]) == (loss, form)])
    write_rows(arguments.csv, rows, remark)
    draw(rows, arguments.csv.with_suffix(".png"), remark)
    if faults := off(rows):
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()

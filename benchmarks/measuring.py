"""What the benchmarks of the losses share: the time of passes and their peak memory, the machine in words, CSV files, bars.

Memory is read from Linux (/proc/self), so these benchmarks run there only.
"""

from __future__ import annotations

import csv
import gc
import os
import platform
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

RESULTS = Path(__file__).parent / "results"
COLOURS = ("#2b6c99", "#b04a3a", "#c99a2e", "#6aa84f", "#7a4fa3", "#5f6b76", "#d08bb0")


def median_seconds(
    forms: dict[str, Callable[..., Tensor]], leaves: Sequence[Tensor], *, rounds: int
) -> dict[str, float]:
    """Return per form the median over interleaved rounds of a forward and backward pass."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, loss in forms.items():
            began = time.perf_counter()
            one_pass(loss, leaves)
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


def one_pass(loss: Callable[..., Tensor], leaves: Sequence[Tensor]) -> None:
    """Run forward and backward; the gradients are dropped afterwards."""
    loss(*leaves).backward()
    for leaf in leaves:
        leaf.grad = None


def peak_of(script: str, form: str, *sizes: int) -> float:
    """Run `script --peak-of FORM SIZES` in a fresh process; return the peak in GB that it prints.

    Every tensor has pages of its own there: what an allocator keeps from earlier work would hide or swell a peak.
    """
    return _child(script, "--peak-of", form, sizes, os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"})


def seconds_of(script: str, form: str, *sizes: int) -> float:
    """Run `script --seconds-of FORM SIZES` in a fresh process; return the seconds of a pass that it prints."""
    return _child(script, "--seconds-of", form, sizes, dict(os.environ))


def answered(losses: Mapping[str, Callable[..., Tensor]], make: Callable[..., Sequence[Tensor]]) -> bool:
    """In a process that `peak_of` or `seconds_of` started: print what it asks for. Return whether this is one."""
    if len(sys.argv) < 2 or sys.argv[1] not in ("--peak-of", "--seconds-of"):
        return False
    what, form, *sizes = sys.argv[1:]
    pairs, *rest = map(int, sizes)
    leaves = make(pairs, *rest)
    if what == "--peak-of":
        print(_peak(losses[form], leaves))
    else:
        one_pass(losses[form], make(max(8, pairs // 4), *rest))  # libraries load
        print(_seconds(losses[form], leaves))
    return True


def _child(script: str, what: str, form: str, sizes: Sequence[int], environment: dict[str, str]) -> float:
    words = [sys.executable, script, what, form, *map(str, sizes)]
    found = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(found.stdout.split()[-1])


def _peak(loss: Callable[..., Tensor], leaves: Sequence[Tensor]) -> float:
    """Return the peak in GB above inputs and gradients, of a second pass.

    Libraries load and allocate in the first, which must be of the same size: one of a quarter of the pairs left 5 MB of
    workspaces of matrix products to be counted.
    """
    one_pass(loss, leaves)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from here
    before = _status("VmRSS")
    one_pass(loss, leaves)
    gradients = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    return (_status("VmHWM") - before - gradients) / 1e9


def _seconds(loss: Callable[..., Tensor], leaves: Sequence[Tensor]) -> float:
    """Return the fastest of as many passes as fit into fifteen seconds, at least three and at most fifteen.

    What else a machine does can only add to a pass.
    """
    found: list[float] = []
    while len(found) < 3 or (sum(found) < 15 and len(found) < 15):
        began = time.perf_counter()
        one_pass(loss, leaves)
        found.append(time.perf_counter() - began)
    return min(found)


def matmul_rate() -> float:
    """Return GFLOP/s of one large matrix product in fp32."""
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - began)
    return 2 * 2048**3 / statistics.median(seconds) / 1e9


def machine() -> str:
    """Return processor, threads and torch in one line."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, fp32"


def write_csv(name: str, rows: Sequence[Mapping[str, object]], remark: str) -> Path:
    """Write rows into results/NAME-DATE.csv."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}-{datetime.now(UTC):%Y-%m-%d}.csv"
    write_rows(target, rows, remark)
    return target


def read_csv(source: Path) -> tuple[list[dict[str, str]], str]:
    """Return the rows of a CSV that `write_csv` made, and its remark."""
    remark, *lines = source.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(lines)), remark.removeprefix("# ")


class Panel(NamedTuple):
    """One panel of horizontal bars: a group per place, a bar per series."""

    title: str
    places: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    """Legend -> a value per place; None draws nothing."""
    log: bool = False
    stacked: bool = False


def draw_bars(panels: Sequence[Panel], target: Path, title: str) -> None:
    """Draw panels of the same series side by side, with every value written at its bar."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to load
    from matplotlib.figure import Figure

    tallest = max(len(panel.places) * (1 if panel.stacked else len(panel.series)) for panel in panels)
    figure = Figure(figsize=(5.6 * len(panels), 1.6 + 0.25 * max(6, tallest)), layout="constrained")
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        width = 0.8 if panel.stacked else 0.8 / len(panel.series)
        ends = [0.0] * len(panel.places)
        for number, (name, values) in enumerate(panel.series.items()):
            shift = 0.0 if panel.stacked else (number + 0.5) * width - 0.4
            where = [place + shift for place in range(len(ends))]
            drawn = [value or 0.0 for value in values]
            bars = axis.barh(
                where, drawn, width, label=name, color=COLOURS[number], left=ends if panel.stacked else None
            )
            ends = [end + value for end, value in zip(ends, drawn, strict=True)] if panel.stacked else ends
            if not panel.stacked:
                axis.bar_label(
                    bars, ["" if value is None else f"{value:,.4g}" for value in values], padding=3, fontsize=7
                )
        axis.set_xscale("log" if panel.log else "linear")
        axis.set_yticks(range(len(ends)), panel.places, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.0 if panel.stacked else 0.2)
        axis.set_xlabel(panel.title)
        axis.grid(axis="x", alpha=0.3)
    if len(panels[0].series) > 1:
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.suptitle("\n".join(textwrap.fill(line, 85 * len(panels)) for line in title.splitlines()), fontsize=8)
    FigureCanvasAgg(figure)
    figure.savefig(target, dpi=110)


def write_rows(target: Path, rows: Sequence[Mapping[str, object]], remark: str) -> None:
    """Write rows under a comment line."""
    with open(target, "w", newline="", encoding="utf-8") as stream:
        stream.write(f"# {remark}\n")
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))

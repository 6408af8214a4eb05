"""What the benchmarks of the losses share: a pass with its time and peak memory, the machine in words, CSV files.

Memory is read from Linux (/proc/self), so these benchmarks run there only.
"""

from __future__ import annotations

import csv
import ctypes
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

RESULTS = Path(__file__).parent / "results"


LIBC = ctypes.CDLL(None)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""


class Pass(NamedTuple):
    """Forward and backward pass."""

    seconds: float
    gigabytes: float
    """Peak memory above inputs and their gradients."""


def seconds_of(loss: Callable[..., Tensor], leaves: Sequence[Tensor]) -> float:
    """Run forward and backward; the gradients are dropped afterwards."""
    began = time.perf_counter()
    loss(*leaves).backward()
    seconds = time.perf_counter() - began
    for leaf in leaves:
        leaf.grad = None
    return seconds


def peak_of(loss: Callable[..., Tensor], leaves: Sequence[Tensor]) -> float:
    """Run forward and backward with every tensor in pages of its own; return the peak in GB above inputs and gradients."""
    _allocate_in_pages_from(2**16)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from here
    before = _status("VmRSS")
    seconds_of(loss, leaves)
    peak = _status("VmHWM") - before - sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    _allocate_in_pages_from(2**25)  # where glibc's own rule ends after the first large tensor
    return peak / 1e9


def measured_passes(
    forms: dict[str, Callable[..., Tensor]], leaves: Sequence[Tensor], *, rounds: int
) -> dict[str, Pass]:
    """Return per form the median seconds over interleaved rounds, and the peak of one more pass."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, loss in forms.items():
            seconds[name].append(seconds_of(loss, leaves))
    return {name: Pass(statistics.median(seconds[name]), peak_of(loss, leaves)) for name, loss in forms.items()}


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


def write_rows(target: Path, rows: Sequence[Mapping[str, object]], remark: str) -> None:
    """Write rows under a comment line."""
    with open(target, "w", newline="", encoding="utf-8") as stream:
        stream.write(f"# {remark}\n")
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _allocate_in_pages_from(size: int) -> None:
    """Give back what is free, and from now on give tensors of that many bytes pages of their own."""
    gc.collect()
    LIBC.malloc_trim(0)
    LIBC.mallopt(M_MMAP_THRESHOLD, size)
    LIBC.mallopt(M_TRIM_THRESHOLD, 2 * size)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))

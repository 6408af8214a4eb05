"""Local loss, forward and backward: the published loop, plain tiled einsum with recomputation, and msvl's own form.

    python benchmarks/local_loss.py                    all shapes; CSV and a plot into benchmarks/results/
    python benchmarks/local_loss.py --shape 96,196,768 one shape

Time: median over interleaved rounds in one process. Memory: peak of a fresh process above inputs and their gradients.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msvl.objectives.contrastive import symmetric_cross_entropy  # noqa: E402
from msvl.objectives.local_alignment import cheaper_form, matching_scores  # noqa: E402

UNITS, TEMP1, TEMP2, TEMP3 = 12, 4.0, 5.0, 10.0
SHAPES = [(96, 196, 768), (96, 196, 512), (96, 196, 128), (32, 576, 768), (32, 576, 512), (32, 576, 128),
          (16, 1024, 768), (16, 1024, 512), (16, 1024, 128), (16, 1369, 768), (16, 1369, 512), (16, 1369, 128)]  # fmt: skip
"""Pairs, patches, channels; pairs as large as 8 GB allows the loop at a bearable time."""
RESULTS = Path(__file__).parent / "results"


def loop(patches: Tensor, units: Tensor) -> Tensor:
    """GLoRIA's own order of work: for each report, every context vector of every image."""
    columns = []
    for report in units:
        query = report.T.expand(len(patches), -1, -1)
        attention = (patches @ query).softmax(dim=2).transpose(1, 2)
        attention = (TEMP1 * attention).softmax(dim=2)
        context = attention @ patches
        inner = (context * report).sum(dim=2)
        cosine = inner / (context.norm(dim=2) * report.norm(dim=1)).clamp(min=1e-8)
        columns.append((TEMP2 * cosine).exp().sum(dim=1).log())
    return torch.stack(columns, dim=1)


def einsum(patches: Tensor, units: Tensor) -> Tensor:
    """The same mathematics as tiles of eight reports, recomputed in the backward pass by autograd."""

    def tile(patches: Tensor, units: Tensor) -> Tensor:
        similarity = torch.einsum("bnc,tsc->btsn", patches, units)
        attention = (TEMP1 * similarity.softmax(dim=2)).softmax(dim=3)
        context = torch.einsum("btsn,bnc->btsc", attention, patches)
        inner = (context * units).sum(dim=-1)
        cosine = inner / (context.norm(dim=-1) * units.norm(dim=-1)).clamp(min=1e-8)
        return (TEMP2 * cosine).logsumexp(dim=2)

    parts = [checkpoint(tile, patches, part, use_reentrant=False) for part in units.split(8)]
    return torch.cat(parts, dim=1)


def ours(patches: Tensor, units: Tensor) -> Tensor:
    """msvl's."""
    return matching_scores(patches, units, torch.ones(units.shape[:2], dtype=torch.bool), temp1=TEMP1, temp2=TEMP2)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"loop": loop, "einsum": einsum, "ours": ours}


def make(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return leaves with room for their gradients."""
    pairs, patches, channels = shape
    generator = torch.Generator().manual_seed(0)
    leaves = []
    for size in (patches, UNITS):
        leaf = torch.randn(pairs, size, channels, generator=generator).div_(channels**0.25).requires_grad_()
        leaf.grad = torch.zeros_like(leaf)
        leaves.append(leaf)
    return leaves[0], leaves[1]


def once(form: str, leaves: tuple[Tensor, Tensor]) -> float:
    """Return the seconds of one forward and backward pass."""
    began = time.perf_counter()
    scores = FORMS[form](*leaves)
    symmetric_cross_entropy(TEMP3 * scores, torch.arange(len(scores)), None).backward()
    return time.perf_counter() - began


def peak(form: str, shape: tuple[int, int, int]) -> float:
    """Return a fresh process's peak memory in GB above its inputs and gradients."""
    words = [sys.executable, __file__, "--memory-of", form, "--shape", ",".join(map(str, shape))]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])


def memory_of(form: str, shape: tuple[int, int, int]) -> None:
    """Print what `peak` reads."""
    once(form, make((2, 16, 16)))  # libraries load their workspaces
    leaves = make(shape)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    once(form, leaves)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9)


def matmul_rate() -> float:
    """Return GFLOP/s of one large matrix product."""
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    left @ right
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - began)
    return 2 * 2048**3 / statistics.median(seconds) / 1e9


def work(shape: tuple[int, int, int]) -> float:
    """Return the GFLOP of matrix products in ours, forward and backward."""
    pairs, patches, channels = shape
    per_row = 4 * channels + 3 * patches if cheaper_form(patches, channels) == "gram" else 8 * channels
    return 2 * pairs * pairs * UNITS * patches * per_row / 1e9


def main() -> None:
    """Measure and write results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", help="pairs,patches,channels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", default="loop,einsum,ours")
    parser.add_argument("--memory-of")
    arguments = parser.parse_args()
    shapes = [tuple(map(int, text.split(","))) for text in arguments.shape] if arguments.shape else SHAPES
    if arguments.memory_of:
        memory_of(arguments.memory_of, shapes[0])
        return
    forms = arguments.forms.split(",")
    rate = matmul_rate()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
          f"torch {torch.__version__}, matmul {rate:.0f} GFLOP/s")  # fmt: skip
    rows = []
    for shape in shapes:
        leaves = make(shape)
        seconds: dict[str, list[float]] = {form: [] for form in forms}
        for _ in range(arguments.rounds):
            for form in forms:
                seconds[form].append(once(form, leaves))
        row: dict[str, object] = {"pairs": shape[0], "patches": shape[1], "channels": shape[2]}
        for form in forms:
            row[f"{form}_s"] = round(statistics.median(seconds[form]), 3)
            row[f"{form}_gb"] = round(peak(form, shape), 3)
        row["matmul_share"] = round(work(shape) / statistics.median(seconds["ours"]) / rate, 2)
        rows.append(row)
        print(row, flush=True)
    if not arguments.shape:
        RESULTS.mkdir(exist_ok=True)
        with open(
            RESULTS / f"local_loss-{datetime.now(UTC):%Y-%m-%d}.csv", "w", newline="", encoding="utf-8"
        ) as stream:
            stream.write(f"# {os.cpu_count()} cores, matmul {rate:.0f} GFLOP/s, torch {torch.__version__}\n")
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()

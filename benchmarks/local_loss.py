"""Local loss, forward and backward: the published loop, plain tiled einsum with recomputation, and msvl's own form.

    python benchmarks/local_loss.py                       all shapes (15 minutes); CSV and a plot into benchmarks/results/
    python benchmarks/local_loss.py --full                seconds with as many pairs as 8 GB allow the loop (50 minutes)
    python benchmarks/local_loss.py --shape 96,196,768    one shape, printed only

Median of interleaved rounds in one process; peak memory above inputs and their gradients, of a fresh process per form.
The pairs per shape are those for which a round takes at most fifteen seconds; the loop then holds 0.2 to 0.7 GB. The paper's
shape is measured once more, by one round, with nearly as many pairs as the loop can hold in 8 GB. `--full` does so for
every shape: one round of passes of 4 to 400 seconds, seconds alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import answered, machine, matmul_rate, median_seconds, peak_of, write_csv  # noqa: E402
from msvl.objectives.contrastive import symmetric_cross_entropy  # noqa: E402
from msvl.objectives.local_alignment import Form, cheaper_form, matching_scores  # noqa: E402

UNITS, TEMP1, TEMP2, TEMP3 = 12, 4.0, 5.0, 10.0
PAIRS = {(196, 768): 96, (196, 512): 96, (196, 128): 128, 576: 64, 1024: 48, 1369: 40}
SHAPES = [
    (PAIRS.get((patches, channels)) or PAIRS[patches], patches, channels)
    for patches in (196, 576, 1024, 1369)
    for channels in (128, 512, 768)
]
"""Pairs, patches, channels."""
FULL = (340, 196, 768)
"""The loop's memory grows with the square of the pairs: here it is 6.8 GB above inputs and gradients."""
LARGE = (512, 196, 768)
"""Measured for msvl's form alone."""


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


def ours(patches: Tensor, units: Tensor, *, form: Form | None = None) -> Tensor:
    """msvl's."""
    mask = torch.ones(units.shape[:2], dtype=torch.bool)
    return matching_scores(patches, units, mask, temp1=TEMP1, temp2=TEMP2, form=form)


def loss_of(scores: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss on these scores."""

    def loss(patches: Tensor, units: Tensor) -> Tensor:
        return symmetric_cross_entropy(TEMP3 * scores(patches, units), torch.arange(len(patches)), None)

    return loss


LOSSES = {
    "loop": loss_of(loop),
    "einsum": loss_of(einsum),
    "ours": loss_of(ours),
    "gram": loss_of(partial(ours, form="gram")),
    "context": loss_of(partial(ours, form="context")),
}


def make(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return patches and units."""
    pairs, patches, channels = shape
    generator = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(pairs, size, channels, generator=generator).div_(channels**0.25).requires_grad_()
        for size in (patches, UNITS)
    ]
    return leaves[0], leaves[1]


def work(shape: tuple[int, int, int]) -> float:
    """Return the GFLOP of matrix products in msvl's form, forward and backward."""
    pairs, patches, channels = shape
    per_row = 4 * channels + 3 * patches if cheaper_form(patches, channels) == "gram" else 8 * channels
    return 2 * pairs * pairs * UNITS * patches * per_row / 1e9


def loop_memory(pairs: int, patches: int, channels: int) -> float:
    """Return the GB that the loop takes above inputs and gradients.

    Two softmaxes and the context vector of every pair and unit; two more tensors of the size of the patches.
    """
    per_pair = UNITS * (2 * patches + channels)
    return 4 * (pairs**2 * per_pair + 2 * pairs * patches * channels) / 1e9


def full_pairs(patches: int, channels: int) -> int:
    """Return the most pairs, a multiple of four, of which the loop holds all in 8 GB, patches and their gradient included."""
    own = 4 * 2 * patches * channels / 1e9
    return next(pairs for pairs in range(2048, 0, -4) if loop_memory(pairs, patches, channels) + pairs * own <= 8)


def measured(
    shape: tuple[int, int, int], forms: list[str], *, rounds: int, rate: float, weighed: bool = True
) -> dict[str, object]:
    """Return a row: seconds and GB per form, the ratios to msvl's form, and its share of the machine's matmul rate."""
    found = median_seconds({form: LOSSES[form] for form in forms}, make(shape), rounds=rounds)
    row: dict[str, object] = {"pairs": shape[0], "patches": shape[1], "channels": shape[2]}
    for form in ("loop", "einsum", "ours"):
        row[f"{form}_s"] = round(found[form], 3) if form in found else ""
        row[f"{form}_gb"] = round(peak_of(__file__, form, *shape), 4) if weighed and form in found else ""
    for form in ("loop", "einsum"):
        row[f"{form}_times"] = round(found[form] / found["ours"], 2) if form in found and "ours" in found else ""
    row["matmul_share"] = round(work(shape) / found["ours"] / rate, 2) if "ours" in found else ""
    return row


def draw(rows: list[dict[str, object]], target: Path, remark: str) -> None:
    """Draw time and memory per shape."""
    import matplotlib.pyplot as plt  # slow to load, and not needed for one shape

    labels = [f"{row['patches']} x {row['channels']}, B = {row['pairs']}" for row in rows]
    figure, axes = plt.subplots(1, 2, figsize=(10, 5.2), sharey=True)
    looks = {"loop": ("published loop", "#b04a3a", "s"), "einsum": ("tiled einsum", "#c99a2e", "^"), "ours": ("msvl", "#2b6c99", "o")}  # fmt: skip
    for axis, unit, title in ((axes[0], "s", "seconds, forward + backward"), (axes[1], "gb", "peak GB above inputs and gradients")):  # fmt: skip
        for form, (label, colour, marker) in looks.items():
            points = [
                (float(str(row[f"{form}_{unit}"])), place)
                for place, row in enumerate(rows)
                if row[f"{form}_{unit}"] != ""
            ]
            axis.plot(*zip(*points, strict=True), marker, color=colour, label=label)
        axis.set_xscale("log")
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[0].set_yticks(range(len(rows)), labels)
    axes[0].invert_yaxis()
    axes[0].set_ylabel("patches x channels")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
    figure.suptitle(f"Local loss, {UNITS} units a report\n{remark}", fontsize=9)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(target, dpi=110)


def main() -> None:
    """Measure, print, and write results where no shape was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", help="pairs,patches,channels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", default="loop,einsum,ours")
    parser.add_argument("--full", action="store_true", help="as many pairs as 8 GB allow the loop; one round")
    if answered(LOSSES, lambda pairs, patches, channels: make((pairs, patches, channels))):
        return
    arguments = parser.parse_args()
    shapes = [tuple(map(int, text.split(","))) for text in arguments.shape or []]
    median_seconds(LOSSES, make((4, 16, 16)), rounds=1)  # libraries load their workspaces
    rate = matmul_rate()
    rounds = "one round" if arguments.full else f"median of {arguments.rounds} interleaved rounds"
    remark = f"{machine()}, matmul {rate:.0f} GFLOP/s, {rounds}"
    print(remark)
    rows = []
    if arguments.full:
        for _, patches, channels in SHAPES:
            shape = (full_pairs(patches, channels), patches, channels)
            rows.append(measured(shape, arguments.forms.split(","), rounds=1, rate=rate, weighed=False))
            print(rows[-1], flush=True)
            write_csv("local_loss_full", rows, remark)  # what was measured stays when the rest is cut off
        return
    for shape in shapes or SHAPES:
        rows.append(measured(shape, arguments.forms.split(","), rounds=arguments.rounds, rate=rate))
        print(rows[-1], flush=True)
    if not shapes:
        for shape, forms in ((FULL, ["loop", "einsum", "ours"]), (LARGE, ["ours"])):
            rows.append(measured(shape, forms, rounds=1, rate=rate))
            print(rows[-1], flush=True)
        target = write_csv("local_loss", rows, remark)
        draw(rows, target.with_suffix(".png"), remark)


if __name__ == "__main__":
    main()

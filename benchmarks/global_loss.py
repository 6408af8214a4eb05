"""Global loss, forward and backward: the matrix form against blocks of rows with recomputed logits.

    python benchmarks/global_loss.py                       16k x 512 both, 32k x 512 ours; CSV and plot into benchmarks/results/
    python benchmarks/global_loss.py --pairs 4096          one size, printed only
    python benchmarks/global_loss.py --plot FILE.csv       the plot of a CSV that is there

Median of interleaved rounds in one process; peak memory above inputs and their gradients, of a fresh process per form.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import (  # noqa: E402
    Panel,
    answered,
    draw_bars,
    machine,
    matmul_rate,
    median_seconds,
    peak_of,
    read_csv,
    write_csv,
)
from msvl.objectives.chunked import two_way_rows  # noqa: E402


def plain(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """The matrix form, as open_clip writes it."""
    logits = scale * image @ text.T
    own = torch.arange(len(image))
    return cross_entropy(logits, own) + cross_entropy(logits.T, own)


def ours(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """msvl's."""
    found = two_way_rows(image, text, scale, torch.arange(len(image)), None)
    return (found.rows - found.positive).mean() + (found.columns - found.positive).mean()


LOSSES = {"plain": plain, "ours": ours}


def make(pairs: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return image and text embeddings and the scale."""
    generator = torch.Generator().manual_seed(0)
    image, text = (normalize(torch.randn(pairs, channels, generator=generator), dim=1) for _ in range(2))
    return image.requires_grad_(), text.requires_grad_(), torch.tensor([14.0], requires_grad=True)


def measured(pairs: int, channels: int, forms: list[str], *, rounds: int) -> dict[str, object]:
    """Return a row: seconds and GB per form, and what the plain form takes of each in multiples of msvl's."""
    found = median_seconds({form: LOSSES[form] for form in forms}, make(pairs, channels), rounds=rounds)
    peaks = {form: peak_of(__file__, form, pairs, channels) for form in forms}
    row: dict[str, object] = {"pairs": pairs, "channels": channels}
    for form in LOSSES:
        row[f"{form}_s"] = round(found[form], 2) if form in found else ""
        row[f"{form}_gb"] = round(peaks[form], 4) if form in found else ""
    both = len(found) == len(LOSSES)
    row["times_faster"] = round(found["plain"] / found["ours"], 2) if both else ""
    row["times_smaller"] = round(peaks["plain"] / peaks["ours"], 1) if both else ""
    return row


def draw(source: Path) -> None:
    """Draw the plot of a CSV beside it."""
    rows, remark = read_csv(source)
    places = [f"{int(row['pairs']):,} x {row['channels']}" for row in rows]
    names = {"plain": "matrix form", "ours": "msvl"}
    panels = [
        Panel(title, places, {name: [float(row[f"{form}_{unit}"]) if row[f"{form}_{unit}"] else None for row in rows] for form, name in names.items()}, log=log)
        for unit, title, log in (("s", "seconds, forward + backward", False), ("gb", "peak GB above inputs and gradients", True))
    ]  # fmt: skip
    draw_bars(panels, source.with_suffix(".png"), f"Global loss, pairs x channels; no bar: not measured\n{remark}")


def main() -> None:
    """Measure, print, and write results where no size was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, metavar="FILE.csv")
    if answered(LOSSES, make):
        return
    arguments = parser.parse_args()
    if arguments.plot:
        draw(arguments.plot)
        return
    median_seconds(LOSSES, make(64, 16), rounds=1)  # libraries load their workspaces
    remark = f"{machine()}, matmul {matmul_rate():.0f} GFLOP/s, median of {arguments.rounds} interleaved rounds"
    print(remark)
    sizes = [(arguments.pairs, list(LOSSES))] if arguments.pairs else [(16384, list(LOSSES)), (32768, ["ours"])]
    rows = []
    for pairs, forms in sizes:
        rounds = arguments.rounds if len(forms) > 1 else 1
        rows.append(measured(pairs, arguments.channels, forms, rounds=rounds))
        print(rows[-1], flush=True)
    if not arguments.pairs:
        draw(write_csv("global_loss", rows, remark))


if __name__ == "__main__":
    main()

"""Global loss, forward and backward: the matrix form against blocks of rows with recomputed logits.

    python benchmarks/global_loss.py --pairs 16384 --channels 512

Time: median over interleaved rounds in one process. Memory: peak of a fresh process above inputs and their gradients.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

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


FORMS = {"plain": plain, "ours": ours}


def make(pairs: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return leaves with room for their gradients."""
    generator = torch.Generator().manual_seed(0)
    leaves = [normalize(torch.randn(pairs, channels, generator=generator), dim=1) for _ in range(2)]
    leaves.append(torch.tensor([14.0]))
    for leaf in leaves:
        leaf.requires_grad_()
        leaf.grad = torch.zeros_like(leaf)
    return leaves[0], leaves[1], leaves[2]


def once(form: str, leaves: tuple[Tensor, Tensor, Tensor]) -> float:
    """Return the seconds of one forward and backward pass."""
    began = time.perf_counter()
    FORMS[form](*leaves).backward()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=16384)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-of")
    arguments = parser.parse_args()
    size = (arguments.pairs, arguments.channels)
    if arguments.memory_of:
        once(arguments.memory_of, make(64, 16))
        leaves = make(*size)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        once(arguments.memory_of, leaves)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9)
        return
    leaves = make(*size)
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(arguments.rounds):
        for form in FORMS:
            seconds[form].append(once(form, leaves))
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {arguments.pairs} pairs x {arguments.channels} channels")
    for form in FORMS:
        words = [sys.executable, __file__, "--memory-of", form, "--pairs", str(size[0]), "--channels", str(size[1])]
        peak = float(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])
        print(f"{form:6s} {statistics.median(seconds[form]):7.2f} s  {peak:6.3f} GB")


if __name__ == "__main__":
    main()

"""The cost of all losses beside the encoders', per rank and step.

    python benchmarks/loss_cost.py              FLOP, counted on the meta device (four minutes); CSV into benchmarks/results/
    python benchmarks/loss_cost.py --measure    seconds of one rank's share on this machine (two minutes, 12 GB); another CSV
    python benchmarks/loss_cost.py --plot FILE  the plot of a CSV that is there, of either kind; the first two draw theirs

FLOP are those of matrix products and convolutions, two per multiplication and addition, forward and backward, counted by
torch's FlopCounterMode on msvl's own modules with the sizes of configs/pretrain/mimic_cxr.yaml. Elementwise work (softmax,
noise, norms) is not counted on either side; it is part of the seconds. The counter knows no product that adds into its
result in place; `ADDING` teaches it. Every count of a loss must equal `loss_flop`, or the script fails.

`one_rank.py` makes up the other ranks, whose shares are copies of this rank's own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import Panel, draw_bars, machine, matmul_rate, read_csv, write_csv  # noqa: E402
from benchmarks.one_rank import (  # noqa: E402
    as_leaves,
    batch_of,
    configuration,
    differentiable,
    made_up,
    model_of,
    objectives_of,
    one_scale,
    ranks,
)
from msvl.data.batch import SampleIds  # noqa: E402
from msvl.models.masking import PatchSplit, token_capacity  # noqa: E402
from msvl.models.msvl_model import MSVLModel  # noqa: E402
from msvl.models.outputs import Embeddings  # noqa: E402
from msvl.objectives.local_alignment import cheaper_form  # noqa: E402
from msvl.objectives.total import OBJECTIVES, Objectives  # noqa: E402
from msvl.training.config import PretrainConfig  # noqa: E402

MODELS = {"ViT-B/16 + BERT-base, 224 px": (224, 16), "ViT-B/14 + BERT-base, 518 px": (518, 14)}
"""Name -> image and patch side."""
BATCHES, RANKS = (256, 1024, 4096), (8, 64)


def product_flop(result: object, left: Sequence[int], right: Sequence[int], **_: object) -> int:
    """Return the FLOP of a product from the shapes [..., m, k] and [..., k, n]."""
    return 2 * prod(left) * right[-1]


ADDING = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_, torch.ops.aten.addbmm_), product_flop)
"""Products that add into their result in place."""


class Work(NamedTuple):
    """FLOP of the model for one pair, forward and backward."""

    encoders: int
    """Both encoders on the whole pair, with the projections."""
    masked: int
    """Both encoders on the masked pair."""
    decoders: int


def flop_of(work: Callable[[], object]) -> int:
    """Return the FLOP of what this does."""
    with FlopCounterMode(display=False, custom_mapping=ADDING) as counter:
        work()
    return int(counter.get_total_flops())


def model_work(config: PretrainConfig) -> Work:
    """Count one pair; a batch costs as many times that."""
    model, batch = model_of(config).to("meta"), batch_of(config, 1).to("meta")

    def passes(*, reconstruct: bool) -> None:
        outputs = differentiable(model(batch, seed=0, reconstruct=reconstruct)).values()
        torch.autograd.backward(list(outputs), [torch.empty_like(value) for value in outputs])

    whole, everything = (flop_of(partial(passes, reconstruct=flag)) for flag in (False, True))
    decoders = flop_of(lambda: _decoders(model, config))
    return Work(encoders=whole, masked=everything - whole - decoders, decoders=decoders)


def _decoders(model: MSVLModel, config: PretrainConfig) -> None:
    patches, width = model.grid**2, model.image_encoder.width
    hidden = int(config.model.image.mask_ratio * patches + 0.5)
    places = token_capacity(config.data.report.max_tokens, config.model.text.mask_ratio)
    visible = torch.empty(1, patches - hidden, dtype=torch.int64, device="meta")
    split = PatchSplit(visible=visible, masked=torch.empty(1, hidden, dtype=torch.int64, device="meta"))
    cls, seen, states = (
        torch.empty(1, *shape, device="meta", requires_grad=True)
        for shape in ((width,), (patches - hidden, width), (places, model.text_encoder.width))
    )
    for output in (model.image_decoder(cls, seen, split), model.text_decoder(states)):
        output.backward(torch.empty_like(output))


def counted_losses(config: PretrainConfig, pairs: int) -> dict[str, int]:
    """Return scale -> FLOP of this rank's share, forward and backward, by the counter."""
    objectives, ids = objectives_of(config).to("meta"), batch_of(config, pairs).to("meta").ids
    found = {}
    for name in OBJECTIVES:
        embeddings = as_leaves(made_up(config, pairs))
        found[name] = flop_of(lambda name=name, own=embeddings: one_scale(objectives, name, own, ids).backward())
    return found


def loss_flop(config: PretrainConfig, pairs: int, gathered: int) -> dict[str, int]:
    """Return the same by formula: docs/scaling.md explains it."""
    b, g, c, s = pairs, gathered, config.model.channels, config.data.report.max_sentences
    n = (config.data.image_size // config.model.image.patch) ** 2
    h = config.objectives.instance.width or c
    gram = cheaper_form(n, c) == "gram"
    per_unit = 2 * n * (4 * c + 3 * n) if gram else 2 * n * 8 * c
    return {
        "global": 8 * b * g * c,
        "local": b * g * s * per_unit + (6 * b * n * n * c if gram else 0),
        "instance": 4 * b * g * c + 36 * b * c * h + 18 * b * h,
        "modality": 16 * b * g * c if config.objectives.modality.cross_sample_weight else 0,
    }


def counted() -> list[dict[str, object]]:
    """Return the table's rows in GFLOP. Exits when counter and formula differ."""
    rows: list[dict[str, object]] = []
    for name, (image_size, patch) in MODELS.items():
        config = configuration(image_size, patch)
        work = model_work(config)
        for gathered in BATCHES:
            for number in RANKS:
                pairs = gathered // number
                with ranks(number):
                    losses = counted_losses(config, pairs)
                if losses != (formula := loss_flop(config, pairs, gathered)):
                    sys.exit(f"{name}, {gathered} pairs on {number} ranks: counted {losses}, by formula {formula}")
                parts = {part: pairs * flop for part, flop in work._asdict().items()}
                together, total = sum(losses.values()), sum(losses.values()) + sum(parts.values())
                gflop = {part: round(flop / 1e9, 3) for part, flop in (parts | losses | {"losses": together}).items()}
                row = {"model": name, "global_batch": gathered, "ranks": number, "pairs": pairs, **gflop}
                rows.append(row | {"losses_percent": round(100 * together / total, 2)})
                print(rows[-1], flush=True)
    return rows


def timed(work: Callable[[], object]) -> float:
    """Return its seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured(config: PretrainConfig, pairs: int, number: int, *, rounds: int) -> dict[str, object]:
    """Return seconds of the model and of the losses, forward and backward, for one of so many ranks."""
    model, batch, objectives = model_of(config), batch_of(config, pairs), objectives_of(config)
    held: list[Embeddings] = []
    forward = timed(lambda: held.append(model(batch, seed=0, reconstruct=True)))
    seconds: dict[str, list[float]] = {name: [] for name in (*OBJECTIVES, "losses")}
    with ranks(number):
        for _ in range(rounds + 1):
            for name, times in seconds.items():
                own = as_leaves(held[0])
                times.append(timed(lambda name=name, own=own: _loss(objectives, name, own, batch.ids).backward()))
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first round warms up
    asked, outputs = differentiable(own), differentiable(held[0])
    gradients = [asked[name].grad for name in outputs]
    backward = timed(lambda: torch.autograd.backward(list(outputs.values()), gradients))
    row = {"pairs": pairs, "gathered": pairs * number, "model_forward": round(forward, 2)}
    row |= {"model": round(forward + backward, 2), **{name: round(value, 3) for name, value in medians.items()}}
    return row | {"losses_percent": round(100 * medians["losses"] / (medians["losses"] + forward + backward), 2)}


def _loss(objectives: Objectives, name: str, embeddings: Embeddings, ids: SampleIds) -> Tensor:
    if name == "losses":
        return objectives(embeddings, ids, 0)["total"]
    return one_scale(objectives, name, embeddings, ids)


def draw(source: Path) -> None:
    """Draw the plot of a CSV beside it: shares of the FLOP, or seconds."""
    rows, remark = read_csv(source)
    if "model_forward" in rows[0]:
        names = ["model", *OBJECTIVES, "losses"]
        seconds = {"seconds": [float(rows[0][name]) for name in names]}
        panels = [
            Panel(
                "seconds, forward + backward", ["encoders and decoders", *names[1:-1], "all losses"], seconds, log=True
            )
        ]
    else:
        panels = []
        for model in dict.fromkeys(row["model"] for row in rows):
            # The share does not depend on the number of ranks: one row per global batch says all.
            own = list({row["global_batch"]: row for row in rows if row["model"] == model}.values())
            parts = ("encoders", "masked", "decoders", "losses")
            totals = [sum(float(row[part]) for part in parts) for row in own]
            series = {
                part: [100 * float(row[part]) / total for row, total in zip(own, totals, strict=True)] for part in parts
            }
            places = [f"{int(row['global_batch']):,} pairs: losses {row['losses_percent']} %" for row in own]
            panels.append(Panel(f"% of the FLOP of a step, {model}", places, series, stacked=True))
    draw_bars(panels, source.with_suffix(".png"), f"The losses beside the encoders\n{remark}")


def main() -> None:
    """Count or measure, print, and write results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--pairs", type=int, help="of the measured rank, one of eight; 32 by default. Printed only")
    parser.add_argument("--plot", type=Path, metavar="FILE.csv")
    arguments = parser.parse_args()
    if arguments.plot:
        draw(arguments.plot)
        return
    if not arguments.measure:
        remark = f"GFLOP per rank and step, forward and backward, torch {torch.__version__}, meta"
        draw(write_csv("loss_cost", counted(), remark))
        return
    config = configuration(*next(iter(MODELS.values())))
    measured(config, 1, 2, rounds=1)  # libraries load their workspaces
    remark = f"seconds, {next(iter(MODELS))}, {machine()}, matmul {matmul_rate():.0f} GFLOP/s, losses median of 5 interleaved rounds, model once"
    row = measured(config, arguments.pairs or 32, 8, rounds=5)
    print(remark, row, sep="\n")
    if not arguments.pairs:
        draw(write_csv("loss_cost_measured", [row], remark))


if __name__ == "__main__":
    main()

"""Bytes that each loss sends per step on 1, 2 and 4 real gloo ranks, against the formulas of docs/scaling.md.

    unshare -rn sh -c 'ip link set lo up && python benchmarks/collective_bytes.py'    two minutes; CSV and plot into benchmarks/results/
    python benchmarks/collective_bytes.py --plot FILE.csv    the plot of a CSV that is there

Two counts. "recorded": what every collective was given, by the recorder of msvl/collectives, with the algorithms that send
the least; it must equal the formula, or the script fails. "loopback": what passed the loopback interface, which is what gloo
itself sends, headers and acknowledgements included; it counts this run alone only in a network of its own (`unshare`).

32 pairs over all ranks, 768 channels, 196 patches, 12 sentences, 256 pixels of a patch; forward and backward pass.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import Panel, draw_bars, machine, read_csv, write_csv  # noqa: E402
from msvl.collectives.agree import barrier  # noqa: E402
from msvl.collectives.strict import check_collectives, recording  # noqa: E402
from msvl.collectives.world import rank, world_size  # noqa: E402
from msvl.objectives.config import ObjectivesConfig  # noqa: E402
from msvl.objectives.total import Objectives  # noqa: E402
from msvl.training.gradcheck.made_up import Sizes, make_embeddings, make_ids, rows_of, trainable  # noqa: E402
from msvl.training.gradcheck.processes import run_processes  # noqa: E402
from tests.objectives.formulas import Shape, bytes_sent  # noqa: E402
from tests.objectives.test_traced import CONFIGS, OFF, TOGETHER  # noqa: E402

WORLDS = (1, 2, 4)
SIZES = Sizes(pairs=32, channels=768, patches=196, sentences=12, pixels=256)
STEPS = 3


def sent_by_rank() -> dict[str, tuple[float, float]]:
    """Collective. Return loss -> bytes per step: recorded on this rank, and over the loopback by all ranks together."""
    check_collectives(False)  # its own messages would pass the loopback too
    rows = torch.arange(rank(), SIZES.pairs, world_size())
    share, ids = rows_of(make_embeddings(SIZES), rows), rows_of(make_ids(SIZES.pairs, "some"), rows)
    found = {}
    for name, sections in CONFIGS.items():
        objectives = Objectives(ObjectivesConfig.model_validate(OFF | sections), channels=SIZES.channels, seed=0)
        step(objectives, share, ids)  # connections are made at first use
        barrier()
        before = loopback_bytes()
        for _ in range(STEPS):
            recorded = step(objectives, share, ids)
        barrier()
        found[name] = (recorded, (loopback_bytes() - before) / STEPS)
        barrier()
    return found


def step(objectives: Objectives, share: object, ids: object) -> float:
    """Collective. Run a forward and backward pass; return the bytes that this rank sends by its recorded calls."""
    embeddings, _ = trainable(share)  # type: ignore[arg-type]
    with recording() as calls:
        objectives(embeddings, ids, 0)["total"].backward()  # type: ignore[arg-type]
    return sum(call.sent(world_size()) for call in calls)


def loopback_bytes() -> int:
    """Return the bytes that the loopback interface has received so far."""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
    return next(int(line.split(":")[1].split()[0]) for line in lines if line.strip().startswith("lo:"))


def rows_for(world: int) -> list[dict[str, object]]:
    """Return a row per loss."""
    answers = run_processes(world, sent_by_rank)
    shape = Shape(
        b=SIZES.pairs // world, W=world, C=SIZES.channels, N=SIZES.patches, S=SIZES.sentences, D=SIZES.pixels
    )  # fmt: skip
    rows: list[dict[str, object]] = []
    for name in CONFIGS:
        recorded = {answer[name][0] for answer in answers}
        formula = sum(bytes_sent(TOGETHER if name == "all" else (name,), shape).values())
        rows.append(
            {
                "ranks": world, "loss": name, "formula_bytes": round(formula), "recorded_bytes": round(max(recorded)),
                "loopback_bytes": round(answers[0][name][1] / world),
                "equal": all(abs(value - formula) < 1 for value in recorded),
            }
        )  # fmt: skip
    return rows


def draw(source: Path) -> None:
    """Draw the plot of a CSV beside it; one rank sends nothing and is left out."""
    rows, remark = read_csv(source)
    panels = []
    for world in WORLDS[1:]:
        own = [row for row in rows if int(row["ranks"]) == world]
        series = {
            "formula": [float(row["formula_bytes"]) / 1e6 for row in own],
            "recorded": [float(row["recorded_bytes"]) / 1e6 for row in own],
            "over the loopback": [float(row["loopback_bytes"]) / 1e6 for row in own],
        }
        panels.append(
            Panel(f"MB per rank and step, {world} ranks", [row["loss"].replace("_", " ") for row in own], series)
        )
    draw_bars(panels, source.with_suffix(".png"), f"What each loss sends\n{remark}")


def main() -> None:
    """Count, print, write; fail where a rank sends other than the formula."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, metavar="FILE.csv", help="only draw the plot of a CSV that is there")
    arguments = parser.parse_args()
    if arguments.plot:
        draw(arguments.plot)
        return
    rows = []
    print(f"{'ranks':>5}  {'loss':22}{'formula':>12}{'recorded':>12}{'loopback':>12}   bytes per rank and step")
    for world in WORLDS:
        for row in rows_for(world):
            rows.append(row)
            numbers = "".join(f"{row[f'{kind}_bytes']:>12,}" for kind in ("formula", "recorded", "loopback"))
            print(f"{world:>5}  {row['loss']:22}{numbers}   {'' if row['equal'] else 'NOT EQUAL'}", flush=True)
    remark = f"{machine()}, gloo; {SIZES.pairs} pairs over all ranks, {STEPS} steps after a first one"
    draw(write_csv("collective_bytes", rows, remark))
    if not all(row["equal"] for row in rows):
        sys.exit("a rank sends other than the formula says")


if __name__ == "__main__":
    main()

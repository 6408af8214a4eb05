"""The checks of an acceptance, in order: each starts something, reads what it left, and answers in words and figures."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from launch.acceptance.configs import image_side
from launch.acceptance.places import Ended, QueueNeeded
from launch.acceptance.stand import Answer, Check, CheckFailed, NotRun, Stand
from launch.restarts import newest_step
from msvl.monitoring.writers import read_metrics
from msvl.training.acceptance.trained import read_memory

IS_INSTALLED = (
    "import importlib.util as u, sys; sys.exit(0 if u.find_spec('open_clip') and u.find_spec('open_clip_train') else 3)"
)
"""Asked without importing anything."""
LOSSES_ON_GPUS = 1e-4
"""Relative: GPU kernels add in no fixed order. On CPUs a resumed run is equal to the bit."""


def pack_data(stand: Stand) -> Answer:
    """Simulate and pack the radiographs that everything else reads."""
    target = stand.folder / "phantom"
    side = max(64, image_side(stand.base))
    words = ["-m", "msvl.cli", "data", "pack", "phantom", "--out", str(target), "--size", str(side)]
    words += ["--short-side", str(side), "--train", str(stand.form.patients), "--val", "16", "--test", "0"]
    ended = stand.place.process([*words, "--train-tokenizer", "400"], stand.log("data"), seconds=420)
    if not ended.good:
        raise CheckFailed(ended.why())
    found = {"patients": stand.form.patients, "side": side, "seconds": ended.seconds}
    return Answer(f"{stand.form.patients} simulated patients of {side} px packed in {ended.seconds:.0f} s", found)


def check_nodes(stand: Stand) -> Answer:
    """Run the pre-flight of every training job."""
    silent = stand.place.check_nodes(stand.folder / f"preflight-{stand.restart}", stand.configs.run("shipped"))
    if silent:
        raise CheckFailed(
            f"no report from {', '.join(silent)}: a node that is down, or that does not see the result folder, which must lie on "
            "a disk that all nodes share (--out)"
        )
    nodes = stand.place.nodes
    told = "the machine has" if nodes == 1 else f"{nodes} nodes reach the first one and have"
    return Answer(f"{told} the same code, the data, free disk and the GPUs that were asked for", {"nodes": nodes})


def check_links(stand: Stand) -> Answer:
    """Let all ranks talk to each other."""
    out = stand.out("links")
    megabytes = str(stand.form.megabytes)
    ended = stand.ranks("links", stand.configs.small, "links", "--out", str(out), "--megabytes", megabytes, seconds=240)
    found = _answer_of(ended, out)
    if stand.world == 1:
        raise NotRun("there is only one rank", found)
    slowest = min(found["links"], key=lambda link: link["gb_per_second"])
    said = f"{stand.world} ranks reach each other; all_reduce {found['operations']['all_reduce']:.2f} GB/s, slowest link of the "
    said += f"ring {slowest['gb_per_second']:.2f} GB/s (rank {slowest['source']} to {slowest['target']})"
    return Answer(said, found)


def check_strictness(stand: Stand) -> Answer:
    """Say whether the strict check of collectives bites here; the ranks have tried it when they met."""
    if stand.world == 1:
        raise NotRun("there is only one rank")
    missed = json.loads(stand.out("links").read_text(encoding="utf-8"))["missed_differences"]
    if missed:
        raise CheckFailed(f"a planted difference was not refused: {', '.join(missed)}", {"missed": missed})
    return Answer(
        "planted differences of shape, dtype, order and memory layout are each refused on all ranks", {"planted": 4}
    )


def check_exactness(stand: Stand) -> Answer:
    """Compare losses and gradients of all ranks with one device and with CPU float64."""
    out = stand.out("exact")
    out.unlink(missing_ok=True)
    stages = ",".join(map(str, stand.form.stages))
    broken = ["--break", stand.broken] if stand.broken else []
    words = ["exact", "--out", str(out), "--stages", stages, *broken]
    ended = stand.ranks("exact", stand.configs.small, *words, seconds=600)
    found = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"cases": []}
    wrong = [case for case in found["cases"] if not case["right"]]
    if wrong:
        case = wrong[0]
        words = [said for one in case["against"].values() for said in one["words"]]
        name = f"ZeRO-{case['stage']} in {case['precision']}"
        raise CheckFailed(f"{len(wrong)} of {len(found['cases'])} cases are wrong; {name}: {words[0]}", found)
    if not ended.good:
        raise CheckFailed(f"{len(found['cases'])} cases were right, then: {ended.why()}", found)
    worst = {
        precision: max(
            one["gradient"] for case in found["cases"] if case["precision"] == precision for one in case["against"].values()
        )
        for precision in ("fp32", "bf16")
    }  # fmt: skip
    said = f"{len(found['cases'])} cases (ZeRO {stages.replace(',', ', ')}; fp32, bf16): gradients differ by at most "
    said += (
        f"{worst['fp32']:.1e} in fp32 and {worst['bf16']:.1e} in bf16; {found['collectives']:,} collectives, all alike"
    )
    return Answer(said, found)


def check_kill(stand: Stand) -> Answer:
    """Kill a run, let it start again, and compare it with one that was left alone."""
    steps = stand.form.drill_steps
    whole, killed = stand.run_folder("whole"), stand.run_folder("killed")
    death = stand.out("death")
    if newest_step(whole) < steps:
        _remove(whole)
        ended = stand.ranks("whole", stand.configs.run("whole"), "train", seconds=300)
        if not ended.good:
            raise CheckFailed(f"the run that is left alone: {ended.why()}")
    if not death.is_file():
        _remove(killed)
        victim = 2 * steps // 3
        ended = stand.ranks("killed", stand.configs.run("killed"), "train", "--die-at", str(victim), seconds=300)
        reached = max((step for step, _, _ in _history(killed)), default=0)
        if ended.code in (0, None) or not 0 < reached <= victim:
            raise CheckFailed(
                f"a rank was to die in step {victim + 1} and with it the run, but it reached step {reached}: {ended.why()}"
            )
        death.write_text(json.dumps({"restart": stand.restart, "step": reached, "seconds": ended.seconds}))
    told = json.loads(death.read_text(encoding="utf-8"))
    requeued = stand.restart > told["restart"]
    if stand.place.requeues and not requeued and stand.refused is None:
        raise QueueNeeded
    checkpoint = newest_step(killed)
    ended = stand.ranks("resumed", stand.configs.run("killed"), "train", "--resume", seconds=300)
    if not ended.good:
        raise CheckFailed(f"the start after the kill: {ended.why()}")
    exact = stand.found.get("links", {}).get("machine", {}).get("backend") != "nccl"
    found = _compared(_history(whole), _history(killed), steps, exact=exact)
    found |= {"killed_after_step": told["step"], "resumed_from_step": checkpoint, "requeued": requeued}
    if stand.refused is not None:
        raise CheckFailed(f"the run went on, but Slurm did not take the job back: {stand.refused}", found)
    how = "the job went through Slurm's queue" if requeued else "the command was typed again (no queue here)"
    equal = "equal to the bit" if found["loss_difference"] == 0 else f"equal to {found['loss_difference']:.0e}"
    said = f"a rank was killed by SIGKILL after step {told['step']}, {how}, and the run went on from step {checkpoint}: losses of "
    return Answer(said + f"all {steps} steps are {equal}, sample keys are equal", found)


def measure_shipped(stand: Stand) -> Answer:
    """Train the shipped configuration for some steps."""
    found = _measured(stand, "shipped")
    said = _as_words(found)
    return Answer(said + (f" ({stand.notes})" if stand.notes else ""), found | {"notes": stand.notes})


def measure_open_clip(stand: Stand) -> Answer:
    """Train the same encoders by open_clip's loop, and by ours with the same loss."""
    out = stand.out("open-clip")
    asked = stand.place.process(["-c", IS_INSTALLED], stand.log("open-clip-installed"), seconds=120)
    if asked.code == 3:
        raise NotRun("open_clip is not installed (pip install open_clip_torch)")
    if not asked.good:
        raise CheckFailed(asked.why())
    ours = _measured(stand, "global")
    steps = stand.form.log_every * stand.form.intervals
    words = ["open-clip", "--out", str(out), "--warm-up", str(stand.form.log_every), "--steps", str(steps)]
    ended = stand.ranks("open-clip", stand.configs.run("global"), *words, seconds=420)
    theirs = _answer_of(ended, out)
    share = ours["pairs_per_second"] / theirs["pairs_per_second"]
    said = f"open_clip's loop: {theirs['pairs_per_second']:.1f} pairs/s; msvl with the global scale alone: "
    said += f"{ours['pairs_per_second']:.1f} pairs/s ({share:.2f} times)"
    return Answer(said, {"open_clip": theirs, "msvl_global_scale": ours})


CHECKS = (
    Check("data", "Simulated radiographs", pack_data),
    Check("nodes", "Pre-flight of the nodes", check_nodes, needs=("data",)),
    Check("links", "Ranks see each other", check_links, needs=("nodes",)),
    Check("strict", "Strict collectives", check_strictness, needs=("links",)),
    Check("exact", "Losses and gradients", check_exactness, needs=("nodes",)),
    Check("kill", "A kill and a requeue", check_kill, needs=("nodes",)),
    Check("shipped", "The shipped configuration", measure_shipped, needs=("nodes",)),
    Check("open_clip", "open_clip's loop with the same encoders", measure_open_clip, needs=("shipped",)),
)


def _answer_of(ended: Ended, out: Path) -> dict[str, Any]:
    if not ended.good:
        raise CheckFailed(ended.why())
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


History = list[tuple[int, dict[str, float], int]]
"""Step, losses, digest of the samples."""


def _history(run: Path) -> History:
    metrics = run / "metrics.jsonl"
    return [
        (row["step"], {name: row[name] for name in row if name.startswith("loss/")}, row["data/samples_digest"])
        for row in (read_metrics(metrics) if metrics.is_file() else [])
        if "loss/total" in row
    ]


def _compared(whole: History, killed: History, steps: int, *, exact: bool) -> dict[str, Any]:
    """Compare two runs step by step. Raises CheckFailed."""
    for name, history in (("the run that was left alone", whole), ("the killed run", killed)):
        if [step for step, _, _ in history] != list(range(1, steps + 1)):
            raise CheckFailed(f"{name} logged {len(history)} of {steps} steps")
    other = [step for (step, _, one), (_, _, two) in zip(whole, killed, strict=True) if one != two]
    if other:
        raise CheckFailed(f"step {other[0]} read other samples than in the run that was left alone")
    gaps = {
        f"{name} of step {step}": 0.0 if two[name] == value else abs(two[name] - value) / max(abs(value), 1e-12)
        for (step, one, _), (_, two, _) in zip(whole, killed, strict=True)
        for name, value in one.items()
    }
    found = {"steps": steps, "loss_difference": max(gaps.values()), "samples_equal": True}
    limit = 0.0 if exact else LOSSES_ON_GPUS
    wrong = next((where for where, gap in gaps.items() if not gap <= limit), None)  # nan is never equal
    if wrong:
        raise CheckFailed(
            f"the killed run's losses differ from those of the one left alone, first by {gaps[wrong]:.1e} in {wrong}",
            found,
        )
    return found


def _measured(stand: Stand, name: str) -> dict[str, Any]:
    """Train a run and return its pace, its waiting and its memory, without the first interval."""
    run, form = stand.run_folder(name), stand.form
    _remove(run)
    memory = stand.folder / "ranks" / f"memory-{name}"
    memory.mkdir(parents=True, exist_ok=True)
    ended = stand.ranks(name, stand.configs.run(name), "train", "--memory", str(memory), seconds=540)
    if not ended.good:
        raise CheckFailed(ended.why())
    rows = [row for row in read_metrics(run / "metrics.jsonl") if "loss/total" in row][1:]
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))["facts"]
    shutil.rmtree(run / "checkpoints", ignore_errors=True)  # gigabytes that nobody needs
    paces = [row["throughput/pairs_per_second"] for row in rows]
    batch = facts["micro_batch"] * facts["accumulation"] * facts["ranks"]
    pace = statistics.median(paces)
    return {
        "pairs_per_second": pace,
        "slowest_pairs_per_second": min(paces),
        "step_seconds": batch / pace,
        "waiting_share": statistics.mean(row["throughput/waiting_share"] for row in rows),
        "steps": form.log_every * len(rows),
        "global_batch": batch,
        "micro_batch": facts["micro_batch"],
        "zero_stage": facts["zero_stage"],
        "precision": facts["precision"],
        "parameters": facts["parameters"],
    } | {f"{kind}_gb": value for kind, value in read_memory(memory).items()}


def _as_words(found: dict[str, Any]) -> str:
    memory = f"{found['gpu_gb']:.1f} GB per GPU" if "gpu_gb" in found else f"{found['main_gb']:.1f} GB per rank"
    return (
        f"{found['pairs_per_second']:.1f} pairs/s, {found['step_seconds']:.2f} s per step of {found['global_batch']} pairs, "
        f"{memory}, {found['waiting_share']:.0%} of the time waiting for data"
    )


def _remove(run: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(run)

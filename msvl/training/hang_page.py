"""The page about a hang: which rank is behind, where, in which sample and collective, and the stacks of all ranks."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from msvl.config.exit_codes import EXIT_FILE, REQUEUE
from msvl.training.run_folder import RunFolder

KEYS_SHOWN = 16


def write_page(
    page: Path, parts: Path, run: Path, *, attempt: int, world: int, seconds: float, patience: float
) -> None:
    """Wait for the other nodes' parts, write the page, record the end of the attempt and its exit code."""
    ranks = _gather(parts, world, patience)
    slowest = slowest_rank(ranks)
    text = render(ranks, slowest, world=world, seconds=seconds, attempt=attempt)
    aside = page.with_name(f".{page.name}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, page)
    reason = (
        f"hung: rank {slowest['who']['rank']} in {slowest['now']['phase']} of step {slowest['now']['step']}, see {page}"
    )
    RunFolder(run).end_attempt(attempt, reason)
    if os.environ.get(EXIT_FILE):
        Path(os.environ[EXIT_FILE]).write_text(str(REQUEUE), encoding="utf-8")
    sys.stderr.write(f"\nmsvl: no step within {seconds:g} s, {reason}; start again with --resume\n")
    sys.stderr.flush()


def _gather(parts: Path, world: int, patience: float) -> list[dict[str, Any]]:
    deadline = time.monotonic() + patience
    while True:
        ranks = [rank for path in parts.glob("node-*.json") for rank in json.loads(path.read_text(encoding="utf-8"))]
        if len(ranks) >= world or time.monotonic() > deadline:
            return sorted(ranks, key=lambda rank: rank["who"]["rank"])
        time.sleep(0.2)


def slowest_rank(ranks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rank that the others wait for.

    One whose process is gone, stopped or stuck in the kernel; else the one with the fewest phases begun, then the fewest
    collectives, then the one that came last.
    """

    def order(rank: dict[str, Any]) -> tuple[bool, int, int, float]:
        bad = rank["state"].startswith(("gone", "stopped", "waiting"))
        collective = rank["collective"]
        since = rank["seen"] - max(rank["now"]["since"], collective.get("since", 0.0))
        return not bad, rank["now"]["beats"], collective.get("number", 0), since

    return min(ranks, key=order)


def render(ranks: list[dict[str, Any]], slowest: dict[str, Any], *, world: int, seconds: float, attempt: int) -> str:
    """Return the page."""
    missing = sorted(set(range(world)) - {rank["who"]["rank"] for rank in ranks})
    lines = [
        f"No step within {seconds:g} s (train.watchdog_minutes): attempt {attempt} was ended for a requeue.",
        "",
        f"Slowest: rank {slowest['who']['rank']} on {slowest['who']['host']}",
        *(f"  {line}" for line in _about(slowest)),
        "",
        "All ranks:",
        *(f"  rank {rank['who']['rank']} on {rank['who']['host']}: {'; '.join(_about(rank)[:4])}" for rank in ranks),
    ]
    if missing:
        lines.append(f"  no word from ranks {', '.join(map(str, missing))}: their node or its watchdog is gone")
    for rank in ranks:
        lines += [
            "",
            f"Stacks of rank {rank['who']['rank']} (process {rank['who']['pid']}):",
            rank["stacks"].rstrip() or "none",
        ]
    return "\n".join(lines) + "\n"


def _about(rank: dict[str, Any]) -> list[str]:
    now, seen = rank["now"], rank["seen"]
    lines = [f"phase {now['phase']} of step {now['step']} for {seen - now['since']:.0f} s", f"process {rank['state']}"]
    collective = rank["collective"]
    if collective:
        lines.append(
            f"last collective {collective['what']} (number {collective['number']}), {seen - collective['since']:.0f} s ago"
        )
    else:
        lines.append("no collective yet")
    reads = [reader for reader in rank["readers"] if reader["key"]]
    if reads:
        oldest = min(reads, key=lambda reader: reader["since"])
        where = "" if oldest["pid"] == rank["who"]["pid"] else f" in loader process {oldest['pid']}"
        lines.append(f"reading sample {oldest['key']} of {oldest['shard']}{where} for {seen - oldest['since']:.0f} s")
    else:
        last = max(rank["readers"], key=lambda reader: reader["since"], default=None)
        lines.append(f"last shard read {last['shard']}" if last else "nothing read yet")
    batch = rank["batch"]
    if batch:
        keys, more = batch["keys"][:KEYS_SHOWN], len(batch["keys"]) - KEYS_SHOWN
        lines.append(f"batch of step {batch['step']}: {' '.join(keys)}" + (f" and {more} more" if more > 0 else ""))
    return lines

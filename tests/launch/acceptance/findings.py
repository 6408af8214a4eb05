"""Findings of checks, as ranks would have left them."""

from __future__ import annotations

from typing import Any

from launch.acceptance.page import Facts
from launch.acceptance.results import Result

MACHINE: dict[str, Any] = {
    "ranks": 2, "backend": "nccl", "gpus_per_node": 2, "gpu": "NVIDIA H100 80GB HBM3", "gpu_memory_gb": 85.0, "cpu": "Some CPU @ 2.20GHz",
    "cores_per_node": 64, "memory_gb": 512, "cuda": "12.8", "nccl": "2.27.3", "tf32": "matrix products off, convolutions on",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
}  # fmt: skip
LINKS: dict[str, Any] = {
    "machine": MACHINE, "megabytes": 64.0, "latency_microseconds": 31.0, "missed_differences": [],
    "operations": {"all_reduce": 210.5, "all_gather": 190.0, "reduce_scatter": 188.0},
    "links": [{"source": 0, "target": 1, "gb_per_second": 170.0, "between_nodes": False},
              {"source": 1, "target": 0, "gb_per_second": 168.0, "between_nodes": True}],
}  # fmt: skip
AGAINST: dict[str, Any] = {
    "loss": 1e-7, "worst_loss": "total", "gradient": 7e-6, "worst_gradient": "total, text encoder", "right": True, "words": [],
}  # fmt: skip
EXACT: dict[str, Any] = {
    "pairs": 8, "collectives": 1234,
    "cases": [{"stage": 2, "precision": "fp32", "right": True, "against": {"CPU float64": AGAINST, "one device": AGAINST}}],
}  # fmt: skip
KILL: dict[str, Any] = {
    "steps": 9, "loss_difference": 0.0, "samples_equal": True, "killed_after_step": 6, "resumed_from_step": 3, "requeued": True,
}  # fmt: skip
PACE: dict[str, Any] = {
    "pairs_per_second": 2345.6, "slowest_pairs_per_second": 2300.0, "step_seconds": 0.218, "waiting_share": 0.03, "steps": 25,
    "global_batch": 512, "micro_batch": 128, "zero_stage": 2, "precision": "bf16", "parameters": 210_000_000, "main_gb": 9.1,
    "gpu_gb": 61.2, "notes": "",
}  # fmt: skip
FACTS = Facts("mimic_cxr", "full", nodes=1, ranks_per_node=2, minutes=9.4)


def passed() -> list[Result]:
    """All checks, all passed."""
    return [
        Result("data", "Simulated radiographs", "passed", "512 patients", 12.0, {"patients": 512}),
        Result("links", "Ranks see each other", "passed", "2 ranks reach each other", 20.0, LINKS),
        Result("exact", "Losses and gradients", "passed", "16 cases", 60.0, EXACT),
        Result("kill", "A kill and a requeue", "passed", "equal to the bit", 60.0, KILL),
        Result("shipped", "The shipped configuration", "passed", "2,345.6 pairs/s", 90.0, PACE),
        Result("open_clip", "open_clip's loop", "not run", "open_clip is not installed"),
    ]

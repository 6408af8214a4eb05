"""What a page may say of a machine: kinds and numbers of parts, versions; no name by which anybody could find it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from msvl.collectives.world import world_size
from msvl.training.run_folder import versions


def describe_machine() -> dict[str, Any]:
    """Return kinds and numbers of this node's parts, and the versions that numbers depend on."""
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return {
        "ranks": world_size(),
        "backend": "nccl" if gpus else "gloo",
        "gpus_per_node": len(gpus),
        "gpu": " + ".join(sorted({gpu.name for gpu in gpus})) or None,
        "gpu_memory_gb": round(min(gpu.total_memory for gpu in gpus) / 1e9, 1) if gpus else None,
        "cpu": cpu_name(),
        "cores_per_node": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "cuda": torch.version.cuda,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if gpus else None,
        "tf32": fp32_products() if gpus else None,
        "versions": versions(),
    }


def fp32_products() -> str:
    """Return where GPUs round fp32 products to TF32 in a training: torch's own choice, which msvl leaves alone."""
    matrices, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    return f"matrix products {'on' if matrices else 'off'}, convolutions {'on' if convolutions else 'off'}"


def cpu_name() -> str:
    """Return the processor's name, its architecture where Linux does not tell it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())

"""Figures of a judgement on the training run's own Weights & Biases page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from msvl.evaluation.figures import SETTINGS
from msvl.monitoring.writers import wandb_key_present

logger = logging.getLogger(__name__)


def mirror_figures(run: Path, name: str, figures: Mapping[str, Any]) -> bool:
    """Add 'evaluation/NAME/TASK.FIGURE' to the run's summary; return whether the run has a page.

    A run that was trained without W&B has none, and nothing is done.
    """
    identity, config = run / "wandb" / "run-id", run / "config.yaml"
    if not identity.is_file() or not config.is_file():
        return False
    settings = yaml.safe_load(config.read_text(encoding="utf-8")).get("wandb", {})
    import wandb  # half a second, and only where it is on

    page = wandb.init(
        project=settings.get("project", "msvl"),
        entity=settings.get("entity"),
        id=identity.read_text(encoding="utf-8").strip(),
        resume="allow",
        dir=str(run),
        mode="online" if wandb_key_present() else "offline",
        settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
    )
    page.summary.update(flat_summary(name, figures))
    page.finish()
    return True


def flat_summary(name: str, figures: Mapping[str, Any]) -> dict[str, float]:
    """Return 'evaluation/NAME/TASK.FIGURE' -> value of single figures; no text of a report is among them."""
    return {
        f"evaluation/{name}/{task}.{figure}": value
        for task, own in figures.items()
        for figure, value in own.items()
        if isinstance(value, float) and figure not in SETTINGS
    }

"""A W&B workspace for pretraining runs: `python -m launch.dashboard [CONFIG]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from launch.command import run_command, say
from msvl.config.errors import ClusterError, ConfigError
from msvl.config.load import load_config
from msvl.monitoring.writers import wandb_key_present
from msvl.training.config import PretrainConfig

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

DEFAULT_CONFIG = "configs/pretrain/mimic_cxr.yaml"


@dataclass(frozen=True)
class Panel:
    """A line plot over steps."""

    title: str
    metrics: tuple[str, ...]


SECTIONS: dict[str, tuple[Panel, ...]] = {
    "Losses per scale": (
        Panel("All scales, weighted", ("loss/total",)),
        Panel("Global", ("loss/global", "train/global_chance")),
        Panel("Local", ("loss/local", "train/local_chance")),
        Panel("Instance", ("loss/instance",)),
        Panel("Modality", ("loss/modality",)),
        Panel("Masked patches, beside the mean patch", ("train/mae", "train/mae_mean_patch_error")),
        Panel("Masked tokens", ("train/mlm",)),
    ),
    "Alignment": (
        Panel("Zero-shot AUC", ("validation/zero_shot.auc_mean", "validation/zero_shot.auc_mean_local")),
        Panel("Report R@5", ("validation/retrieval.report_r5", "validation/retrieval.report_r5_chance")),
        Panel("Ridge probe AUC", ("validation/ridge_probe.auc_mean",)),
        Panel("Global: true against other pairs", ("train/global_positive", "train/global_negative")),
        Panel("Local: true against other pairs", ("train/local_positive", "train/local_negative")),
        Panel("Accuracy within the batch", ("train/global_accuracy", "train/local_accuracy")),
        Panel(
            "Matching accuracy",
            ("train/matching_accuracy_true_pairs", "train/matching_accuracy_negatives", "train/matching_accuracy_hard"),
        ),
        Panel("Logit scale", ("train/global_logit_scale",)),
    ),
    "Throughput": (
        Panel("Pairs per second", ("throughput/pairs_per_second",)),
        Panel("Share of time waiting for data", ("throughput/waiting_share",)),
        Panel("Learning rate", ("train/lr",)),
        Panel("Gradient norm", ("train/gradient_norm",)),
        Panel("Updates left out", ("train/skipped_steps",)),
    ),
    "Data health": (
        Panel("Share of pairs that are no negatives (same text, study or patient)", ("train/excluded_share",)),
        Panel("Sentences per report", ("train/sentences_per_report",)),
        Panel("Share of reports of one sentence", ("train/one_sentence_share",)),
        Panel("Attempt", ("attempt",)),
    ),
}
"""What a person looks at while a run trains: section -> panels."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.dashboard",
        description="Create a W&B workspace with the losses per scale, alignment, throughput and data health of a project's runs.",
        epilog="Example: python -m launch.dashboard configs/pretrain/mimic_cxr.yaml wandb.entity=my-team",
    )
    parser.add_argument(
        "config", nargs="?", default=DEFAULT_CONFIG, help="of the runs: names project and team (default: %(default)s)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="as for training")
    parser.add_argument("--name", default="msvl pretraining", help="of the workspace (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="print the specification as JSON and stop")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Create the workspace, or print what it would be; return the exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: launch(arguments), debug=arguments.debug)


def launch(arguments: argparse.Namespace) -> int:
    """Read the configuration, then print or save."""
    wandb = load_config(arguments.config, arguments.overrides, PretrainConfig).wandb
    if not wandb.enabled:
        raise ConfigError(f"{arguments.config} has wandb.enabled: false, so there is nothing to show on W&B")
    workspace = build_workspace(arguments.name, wandb.entity or "your-team", wandb.project)
    if arguments.dry_run:
        panels = {section: [asdict(panel) for panel in panels] for section, panels in SECTIONS.items()}
        spec = {"name": arguments.name, "entity": wandb.entity, "project": wandb.project, "sections": panels}
        sys.stdout.write(json.dumps(spec, indent=1) + "\n")
        return 0
    if wandb.entity is None:
        raise ConfigError("a workspace belongs to a team or user: add wandb.entity=NAME")
    if not wandb_key_present():
        raise ConfigError("no W&B key was found: type `wandb login`, or set WANDB_API_KEY")
    from wandb.errors import Error

    try:
        say(f"open {workspace.save().url}")
    except (Error, OSError, ValueError) as error:
        raise ClusterError(f"W&B did not take the workspace of {wandb.entity}/{wandb.project}: {error}") from error
    return 0


def build_workspace(name: str, entity: str, project: str) -> Workspace:
    """Return the workspace with all sections open; nothing is sent. Raises ClusterError where W&B's packages are missing."""
    try:  # not at the top: a Python that only submits lacks them
        from wandb_workspaces.reports.v2 import LinePlot
        from wandb_workspaces.workspaces import Section, Workspace
    except ImportError as error:
        raise ClusterError(
            f"{sys.executable} lacks {error.name}: type this with .venv/bin/python, or inside the container of training"
        ) from error
    sections = [
        Section(
            name=title,
            panels=[LinePlot(title=panel.title, x="step", y=list(panel.metrics)) for panel in panels],
            is_open=True,
        )
        for title, panels in SECTIONS.items()
    ]
    return Workspace(name=name, entity=entity, project=project, sections=sections)


if __name__ == "__main__":
    sys.exit(main())

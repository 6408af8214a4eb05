"""Where numbers go: metrics.jsonl first, the progress bar for people, W&B as a mirror."""

from __future__ import annotations

import json
import netrc
import os
import uuid
from pathlib import Path
from typing import IO, Any

from msvl.monitoring.observer import StepReport, flat
from msvl.monitoring.wandb_file import seal


class JsonlWriter:
    """Appends one line per logged step or judgement to metrics.jsonl, each with its attempt."""

    def __init__(self, path: Path, attempt: int) -> None:
        cut = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._stream: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._attempt = attempt
        if cut:  # by a kill: the next line must not go on where that one ends
            self._stream.write("\n")

    def after_step(self, report: StepReport) -> None:
        """Write a step."""
        self._write(flat(report))

    def after_judgement(self, step: int, metrics: dict[str, float]) -> None:
        """Write a judgement under the prefix validation/."""
        self._write({"step": step} | {f"validation/{name}": value for name, value in metrics.items()})

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._stream.write(json.dumps(record | {"attempt": self._attempt}) + "\n")
        self._stream.flush()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl in order of steps; where attempts overlap after a resume, the latest attempt counts.

    A last line that a kill cut short is left out.
    """
    records: dict[tuple[int, bool], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        is_step = any(name.startswith("loss/") for name in record)
        key = (int(record["step"]), is_step)
        if key not in records or records[key]["attempt"] <= record["attempt"]:
            records[key] = record
    return [records[key] for key in sorted(records)]


class ProgressBar:
    """A bar with the loss per scale, pairs/s and the share of time spent waiting for data."""

    def __init__(self, start: int, steps: int) -> None:
        from tqdm import tqdm  # the launchers' small environment, which reads metrics, has none

        self._bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, smoothing=0.1, mininterval=0.5)

    def after_step(self, report: StepReport) -> None:
        """Move the bar."""
        losses = " ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
        self._bar.set_postfix_str(
            f"{losses} | {report.pairs_per_second:.0f} pairs/s, waiting {report.waiting_share:.0%}", refresh=False
        )
        self._bar.update(report.step - self._bar.n)

    def after_judgement(self, step: int, metrics: dict[str, float]) -> None:
        """Print the judgement above the bar."""
        shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if not name.endswith("_n"))
        self._bar.write(f"step {step}: {shown}")

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


class WandbWriter:
    """Mirrors to Weights & Biases under one run id for all attempts; offline unless an API key is there.

    Every logged step is one row of the run, whatever happens. Rows that an earlier attempt has mirrored are not mirrored
    again when a resume makes their steps once more; rows up to the resume that were lost with a killed process, which W&B
    keeps in memory for a while, are taken from metrics.jsonl.
    """

    def __init__(
        self, folder: Path, *, project: str, entity: str | None, name: str, config: dict[str, Any], resumed_at: int
    ) -> None:
        """Go on with the run that `folder` belongs to, from step `resumed_at` on."""
        import wandb  # half a second, and only where it is on

        identity, online = folder / "wandb" / "run-id", wandb_key_present()
        identity.parent.mkdir(parents=True, exist_ok=True)
        if not identity.is_file():
            identity.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
        run_id = identity.read_text(encoding="utf-8").strip()
        mirrored = seal(identity.parent, run_id)
        # A wandb service that some parent process started would outlive a killed attempt, and refuse the next the run's id.
        os.environ.pop("WANDB_SERVICE", None)
        self._run = wandb.init(
            project=project,
            entity=entity,
            name=name,
            id=run_id,
            resume="allow",
            dir=str(folder),
            config=config,
            mode="online" if online else "offline",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        # Online, the server knows better than our files: it may have lost a node's last rows, and got nothing of offline attempts.
        self._mirrored = self._run.starting_step - 1 if online else mirrored
        metrics = folder / "metrics.jsonl"
        for record in read_metrics(metrics) if resumed_at and metrics.is_file() else []:
            if record["step"] <= resumed_at:
                self._log({name: value for name, value in record.items() if name != "attempt"})

    def after_step(self, report: StepReport) -> None:
        """Mirror a step."""
        self._log(flat(report))

    def after_judgement(self, step: int, metrics: dict[str, float]) -> None:
        """Mirror a judgement, into the row of its step."""
        self._log({"step": step} | {f"validation/{name}": value for name, value in metrics.items()})

    def close(self) -> None:
        """Flush and finish."""
        self._run.finish()

    def _log(self, record: dict[str, Any]) -> None:
        if record["step"] > self._mirrored:
            self._run.log(record, step=record["step"])


def wandb_key_present() -> bool:
    """Return whether W&B could log in without asking anybody (WANDB_MODE=offline or disabled is respected)."""
    if os.environ.get("WANDB_MODE", "online") != "online":
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False

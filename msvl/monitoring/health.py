"""Says in words when a contrastive scale does not learn, and when updates are left out."""

from __future__ import annotations

import logging

from msvl.monitoring.observer import StepReport

logger = logging.getLogger(__name__)

CAUSES = (
    "likely causes: images not standardised (model.image.pixel_mean / pixel_std), learning rate too high or no warm-up, "
    "no gradient clipping, or a global batch too small"
)


class SkippedSteps:
    """Warns when the engine leaves out updates: the loss was finite, a gradient was not."""

    def __init__(self, already: int) -> None:
        self._known = already

    def after_step(self, report: StepReport) -> None:
        """Compare the count with the last one."""
        new = report.skipped_steps - self._known
        if new > 0:
            logger.warning(
                "step %d: %d more updates were left out because a gradient was not finite (%d in this run); if this goes on, "
                "lower optimizer.lr or lengthen optimizer.warmup_steps",
                report.step, new, report.skipped_steps,
            )  # fmt: skip
        self._known = report.skipped_steps

    def after_judgement(self, step: int, metrics: dict[str, float]) -> None:
        """Nothing to see here."""

    def close(self) -> None:
        """Nothing to close."""


def _watched(report: StepReport) -> dict[str, tuple[float, float]]:
    """Return loss and chance by name; a loss without a chance value, such as the sigmoid's, is not watched."""
    found = {scale: (report.losses.get(scale), report.metrics.get(f"{scale}_chance")) for scale in ("global", "local")}
    chance = report.metrics.get("cross_sample_chance")
    found |= {
        f"cross-sample {side}": (report.metrics.get(f"cross_sample_{side}"), chance) for side in ("image", "text")
    }
    return {name: (loss, chance) for name, (loss, chance) in found.items() if loss is not None and chance is not None}


class CollapseWatch:
    """Warns when a contrastive loss stays at its chance value (every candidate equally likely).

    A loss within `tolerance` of chance, on either side, on average over `patience` logged steps, after the first `patience`, is a collapse.
    """

    def __init__(self, *, tolerance: float = 0.01, patience: int = 10) -> None:
        self._tolerance = tolerance
        self._patience = patience
        self._gaps: dict[str, list[float]] = {}
        self.collapsed: set[str] = set()

    def after_step(self, report: StepReport) -> None:
        """Compare each contrastive loss with its chance value."""
        for scale, (loss, chance) in _watched(report).items():
            gaps = self._gaps.setdefault(scale, [])
            gaps.append((chance - loss) / chance if chance > 0 else 1.0)
            recent = gaps[-self._patience :]
            stuck = len(gaps) >= 2 * self._patience and abs(sum(recent)) / len(recent) < self._tolerance
            if stuck and scale not in self.collapsed:
                self.collapsed.add(scale)
                logger.warning(
                    "step %d: the %s loss is stuck at its chance value (%.3f of %.3f): the embeddings have collapsed; %s",
                    report.step, scale, loss, chance, CAUSES,
                )  # fmt: skip
            elif not stuck:
                self.collapsed.discard(scale)

    def after_judgement(self, step: int, metrics: dict[str, float]) -> None:
        """Nothing to see here."""

    def close(self) -> None:
        """Nothing to close."""

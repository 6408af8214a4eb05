"""The histograms of `msvl data inspect` as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from msvl.config.errors import DataError

PANELS = (("words", "words per report"), ("short_side", "short side in pixels"))


def write_histograms(splits: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw report lengths and image sizes of every split, as shares of its samples. Raises DataError."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, title) in enumerate(PANELS, start=1):
        axes = figure.add_subplot(1, len(PANELS), place)
        width = 0.8 / len(splits)
        for number, (split, part) in enumerate(splits.items()):
            counts = part[name]
            total = max(1, sum(counts.values()))
            places = [bin_ + number * width for bin_ in range(len(counts))]
            axes.bar(
                places, [count / total for count in counts.values()], width, label=f"{split} ({total:,})", align="edge"
            )
        axes.set_xticks([bin_ + 0.4 for bin_ in range(len(counts))], list(counts), rotation=45, ha="right")
        axes.set_xlabel(title)
        axes.set_ylabel("share of samples")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}): name a folder with --out") from error

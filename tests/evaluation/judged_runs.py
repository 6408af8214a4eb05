"""A run folder with a tiny model, a small phantom, and a protocol whose trainings take seconds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from msvl.cli import main
from msvl.config.load import load_config
from msvl.config.save import save_config
from msvl.data.pack import PackOptions, pack
from msvl.data.packed import PackedSet
from msvl.data.phantom.parameters import FINDINGS
from msvl.data.sources.phantom import PhantomSource
from msvl.data.study import Entry, Record
from msvl.data.tokenise import ReportTokeniser
from msvl.evaluation.locate import FINISHED, locate_model
from msvl.evaluation.protocol import read_protocol
from msvl.evaluation.protocol_command import TASKS
from msvl.evaluation.protocol_run import ProtocolRequest, evaluate_protocol
from msvl.models.build import build_model
from msvl.models.exported import save_exported
from msvl.training.config import PretrainConfig
from tests.helpers.runs import tiny_config

SIZE = 64
IMAGE = {
    "width": 32, "depth": 2, "heads": 2, "mlp_width": 64, "patch": 16, "stem": "patch",
    "decoder": {"width": 16, "depth": 1, "heads": 2},
}  # fmt: skip
TEXT = {"width": 32, "depth": 1, "heads": 2, "mlp_width": 32}
SCHEDULES = {"10": {"steps": 3, "lr": 1e-3, "warmup": 1}, "100": {"steps": 6, "lr": 1e-3, "warmup": 2}}


class DescribedPhantom(PhantomSource):
    """The phantom with a sex, an age, a race and two views, by number, which its pictures do not show."""

    def record(self, entry: Entry) -> Record:
        record = super().record(entry)
        number = int(entry.patient.rsplit("-", 1)[1])
        record.extra.update(sex="FM"[number % 2], age=30 + number % 60, race="AB"[number % 5 < 2])
        return Record(**{**record.__dict__, "view": ("PA", "AP")[number % 3 == 0]})


class NoisePhantom(DescribedPhantom):
    """The phantom's reports, labels, boxes and masks beside pictures of noise."""

    def record(self, entry: Entry) -> Record:
        record = super().record(entry)
        rng = np.random.default_rng(int(entry.patient.rsplit("-", 1)[1]))
        noise = rng.integers(0, 256, record.image.shape, dtype=np.uint8)
        return Record(**{**record.__dict__, "image": noise})


class ShownPhantom(DescribedPhantom):
    """The phantom with a patch of its own for each finding, which is its mask too: by place and pattern, so soon learnt."""

    def record(self, entry: Entry) -> Record:
        record = super().record(entry)
        image, masks = record.image.copy(), dict(record.masks)
        side = IMAGE["patch"]
        rows, columns = np.indices((side, side)) // (side // 4)
        patterns = (rows * 0 + 1, rows * 0, rows % 2, columns % 2, (rows + columns) % 2)
        for place, (name, pattern) in enumerate(zip(FINDINGS, patterns, strict=True)):
            top, left = divmod(3 * place, SIZE // side)
            here = np.s_[top * side : (top + 1) * side, left * side : (left + 1) * side]
            masks[name] = np.zeros(image.shape, dtype=bool)
            if record.labels[name]:
                masks[name][here] = True
                image[here] = 255 * pattern
        return Record(**{**record.__dict__, "image": image, "masks": masks})


def pack_phantom(folder: Path, *, source: type[PhantomSource] = DescribedPhantom, **counts: int) -> Path:
    """Pack a phantom with a tokenizer."""
    settings = {"train": 100, "val": 40, "test": 48, "size": SIZE, "studies_per_patient": 1.0} | counts
    options = PackOptions(short_side=SIZE, shard_samples=100, tokenizer_vocabulary=300)
    pack(source(**settings), folder, options, workers=1, progress=False)
    return folder


def make_run(folder: Path, packed_folder: Path, *, seed: int = 5) -> Path:
    """Make a run folder with one exported checkpoint of random weights."""
    model = {"channels": 16, "image": IMAGE, "text": TEXT}
    data = {"image_size": SIZE}
    folder.mkdir(parents=True, exist_ok=True)
    file = tiny_config(folder / "tiny.yaml", data=packed_folder, runs=folder, name=f"tiny{seed}", model=model)
    tree = yaml.safe_load(file.read_text())
    tree["data"] |= data
    file.write_text(yaml.safe_dump(tree))
    config = load_config(str(file), [], PretrainConfig)
    packed = PackedSet.open(packed_folder)
    tokeniser = ReportTokeniser(str(packed.tokenizer_path), config.data.report)
    torch.manual_seed(seed)
    built = build_model(
        config.model, image_size=config.data.image_size, tokeniser=tokeniser, pixel_mean=packed.pixel_mean,
        pixel_std=packed.pixel_std,
    )  # fmt: skip
    run = folder / f"tiny{seed}"
    checkpoint = run / "checkpoints" / "step-00000008"
    save_exported(
        checkpoint / "model", config=built.config, state_dict=built.state_dict(), tokeniser=tokeniser, data=config.data,
        sources=[{"name": packed.name, "licence": packed.licence}],
    )  # fmt: skip
    (checkpoint / FINISHED).touch()
    save_config(config, run / "config.yaml")
    return run


def fast_protocol(path: Path, **changes: dict[str, Any]) -> Path:
    """Write a protocol with a card per task whose trainings take a second."""
    recipes: dict[str, dict[str, Any]] = {
        "zero_shot": {"prompts": "own", "score": "both"},
        "retrieval": {"fold": 20},
        "grounding": {"sigma": 0.0},
        "linear_probe": {"ratios": ["10", "100"]},
        "fine_tuned": {"optimizer": "adamw", "batch": 8, "judged": 2, "schedules": SCHEDULES},
        "segmentation": {"batch": 4, "judged": 2, "schedules": SCHEDULES},
    }
    headlines = {"retrieval": "report_r5", "grounding": "miou", "segmentation": "dice_image"}
    cards = [
        {"task": task, "data": "any", "headline": headlines.get(task, "auc_mean"), "seeds": [0, 1] if task == "linear_probe" else [0],
         task: recipe | changes.get(task, {})}
        for task, recipe in recipes.items()
    ]  # fmt: skip
    path.write_text(yaml.safe_dump({"name": "fast", "title": "t", "summary": "s", "cards": cards}))
    return path


def wandb_content(file: Path, last: str, *, limit: float = 60.0) -> bytes:
    """Return a .wandb file once `last` is in it, or after `limit` seconds: W&B's own process writes it a while after `finish`."""
    end = time.monotonic() + limit
    while last.encode() not in (content := file.read_bytes()) and time.monotonic() < end:
        time.sleep(0.2)
    return content


def content_of(run: Path) -> dict:
    """Read the judgement that `conftest.py` makes."""
    return json.loads((run / "evaluation" / "phantom-test-fast.json").read_text())


def judge(run: Path, protocol: Path, tasks: tuple[str, ...] = TASKS) -> dict:
    """Judge on this rank."""
    torch.set_num_threads(1)
    request = ProtocolRequest(place=locate_model(run), protocol=read_protocol(str(protocol)), tasks=tasks)
    return evaluate_protocol(request, say=lambda text: None)[1]["figures"]


def main_debug(words: list[str]) -> int:
    """Run a command whose errors are raised."""
    return main([*words, "--debug"])

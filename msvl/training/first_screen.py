"""What a run says of itself before its first step, and after its last."""

from __future__ import annotations

import sys

from msvl.training.prepare import Prepared
from msvl.training.state import TrainState

PLAIN = "PLAIN: each micro-batch contrasts with itself alone, which is another objective"
"""What `train.accumulation=plain` does."""


def first_screen(prepared: Prepared, facts: dict[str, object], state: TrainState) -> str:
    """Say in ten lines what will happen."""
    config, folder = prepared.config, prepared.folder.path
    weights = config.objectives
    scales = {
        "global": weights.global_.weight,
        "local": weights.local.weight,
        "instance": weights.instance.weight,
        "modality": weights.modality.weight,
    } | {name: custom.weight for name, custom in weights.custom.items()}
    epochs = config.train.steps * config.train.global_batch / prepared.data.plan.epoch_places
    lines = [
        f"msvl run {config.run.name}{_resumed(prepared, state)}",
        f"  model       {facts['parameters']:,} parameters, image {facts['image_encoder']}, text {facts['text_encoder']}, "
        f"shared channels {config.model.channels}",
        f"  data        {_described(prepared)}, {config.data.image_size} px"
        + (
            f", masked patches at {config.data.image_size * config.data.target_scale} px"
            if config.data.target_scale > 1
            else ""
        ),
        "  objectives  " + ", ".join(f"{name} x {weight:g}" for name, weight in scales.items()),
        f"  batch       {config.train.global_batch} = {facts['ranks']} ranks x {facts['micro_batch']} x accumulation "
        f"{facts['accumulation']}"
        + {
            "cached": ", gradients of the whole batch (cached)",
            "none": "",
            "plain": f", {PLAIN}",
        }[str(facts["accumulation_kind"])],
        f"  engine      DeepSpeed ZeRO-{facts['zero_stage']}, {facts['precision']}, {facts['device']}, "
        f"{facts['threads_per_rank']} threads per rank",
        f"  steps       {state.step:,} -> {config.train.steps:,} ({epochs:.1f} epochs), judged every "
        f"{config.validation.every:,}, saved every {config.train.save_every:,}",
        f"  folder      {folder}",
        "  stop        Ctrl-C once: finishes the step, saves, exits",
        f"  resume      msvl train {folder}/config.yaml --resume",
    ]
    return "\n".join(lines) + "\n"


def _resumed(prepared: Prepared, state: TrainState) -> str:
    """Return ', resumed after step 40, saved by 2 ranks, shared out over 4'."""
    if prepared.checkpoint is None:
        return ""
    saved_by = TrainState.read(prepared.checkpoint / "state.json").world
    other = f", saved by {saved_by} ranks, shared out over {state.world}" if saved_by != state.world else ""
    return f", resumed after step {state.step:,}{other}"


def _described(prepared: Prepared) -> str:
    """Return 'shards/mine: 2,400 pairs of 900 patients', with its share where sources are mixed."""
    data, parts = prepared.config.data, []
    for packed in prepared.data.sets:
        counts = packed.counts(data.train_split)
        parts.append(f"{packed.location}: {counts['samples']:,} pairs of {counts['patients']:,} patients")
        if data.images == "one_per_study" and counts["studies"] < counts["samples"]:
            parts[-1] += f", one of each of {counts['studies']:,} studies per epoch"
    if not data.mix:
        return parts[0]
    total = sum(data.mix.values())
    shares = [f"{weight / total:.1%} {part}" for part, weight in zip(parts, data.mix.values(), strict=True)]
    return "; ".join(shares) + f"; an epoch is {prepared.data.plan.epoch_places:,} samples"


def say_end(state: TrainState, prepared: Prepared, reason: str) -> None:
    """Say where the result lies and what to type next."""
    folder = prepared.folder.path
    if reason == "finished":
        text = f"Finished {state.step:,} steps: {folder}\nNext: msvl evaluate {folder}\n"
    else:
        text = f"Run {reason} after step {state.step:,}, saved.\nNext: msvl train {folder}/config.yaml --resume\n"
    sys.stderr.write(text)

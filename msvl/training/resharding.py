"""Resume on another number of ranks: every new rank cuts its part of the optimizer's state out of the old ranks' files.

ZeRO 1 to 3 keep parameters end to end in flat tensors, one slice of each tensor per rank, padded so that the ranks' slices
are equal. A parameter's stretches are found by name in the old files and laid where this start's layout wants them. Nothing
is rounded. DeepSpeed's own way (universal checkpoints) writes the whole state to disk once more, and its ZeRO-3 loader gives
every parameter group the settings of the first one, here its weight decay.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msvl.collectives.world import rank, world_size
from msvl.config.errors import CheckpointError
from msvl.training.storage import read_torch

MASTER = "fp32"
"""Name for the full-precision weights among the states of an optimizer."""


@dataclass(frozen=True)
class Stretch:
    """Where a part of a flattened parameter lies."""

    begin: int
    """In the parameter."""
    numel: int
    group: int
    start: int
    """In the flat tensor of the group."""
    rank: int
    """Whose flat tensor."""


@dataclass(frozen=True)
class FlatState:
    """What one rank keeps, per group."""

    master: list[Tensor]
    """[slice] per group."""
    states: dict[int, dict[str, Any]]
    """Of the wrapped optimizer: flat tensors of the same layout, and scalars."""


class OldShards:
    """The files of the ranks that saved: mapped, so that only what this rank needs is read."""

    def __init__(self, files: Path, *, world: int, stage: int) -> None:
        self._ranks: list[FlatState] = []
        self._stretches: dict[str, list[Stretch]] = defaultdict(list)
        for number in range(world):
            saved = read_torch(_only(files, f"*zero_pp_rank_{number}_mp_rank_*optim_states.pt"), mmap=True)
            shard = saved["optimizer_state_dict"]
            if stage == 3:
                shapes = read_torch(_only(files, "*zero_pp_rank_0_mp_rank_*model_states.pt"))["param_shapes"]
                self._ranks.append(FlatState(shard["fp32_flat_groups"], shard["optimizer_state_dict"]["state"]))
                self._note_equal_parts(number, world, shapes)
            else:
                master = shard["single_partition_of_fp32_groups"]
                self._ranks.append(FlatState(master, shard["base_optimizer_state"]["state"]))
                self._note_slices(number, shard["param_slice_mappings"])

    def states(self, name: str) -> dict[str, Any]:
        """Return the optimizer's states where a parameter begins: flat tensors and scalars (empty before the first update)."""
        first = self._stretches[name][0]
        return self._ranks[first.rank].states.get(first.group, {})

    def read(self, name: str, key: str, begin: int, numel: int) -> Tensor:
        """Return elements begin ... begin + numel - 1 of a state of a flattened parameter: [numel]."""
        parts, reached = [], begin
        for stretch in self._stretches[name]:
            stop = min(begin + numel, stretch.begin + stretch.numel)
            if stretch.begin <= reached < stop:
                owner = self._ranks[stretch.rank]
                flat = owner.master[stretch.group] if key == MASTER else owner.states[stretch.group][key]
                parts.append(flat.narrow(0, stretch.start + reached - stretch.begin, stop - reached))
                reached = stop
        if reached != begin + numel:
            raise CheckpointError(
                f"the optimizer's files have no elements {reached} ... of {name}: another model wrote them"
            )
        return torch.cat(parts) if parts else torch.empty(0)

    def _note_slices(self, number: int, mappings: list[dict[str, Any]]) -> None:
        """ZeRO 1 and 2: a group's parameters end to end, cut into one slice per rank."""
        for group, mapping in enumerate(mappings):
            for name, place in mapping.items():
                known = self._stretches[name]
                begin = known[-1].begin + known[-1].numel if known else 0
                known.append(Stretch(begin, place.numel, group, place.start, number))

    def _note_equal_parts(self, number: int, world: int, shapes: list[dict[str, Any]]) -> None:
        """ZeRO 3: each parameter cut into equal parts, the last one padded; a rank's parts end to end."""
        for group, sizes in enumerate(shapes):
            start = 0
            for name, shape in sizes.items():
                whole = math.prod(shape)
                part = math.ceil(whole / world)
                held = max(0, min(part, whole - number * part))
                self._stretches[name].append(Stretch(number * part, held, group, start, number))
                start += part


def load_resharded(deepspeed: Any, files: Path, *, world: int) -> None:
    """Collective. Restore an engine under ZeRO 1 to 3 from the files that `world` ranks saved in `files`."""
    stage, optimizer = deepspeed.zero_optimization_stage(), deepspeed.optimizer
    first = read_torch(
        _only(files, "*zero_pp_rank_0_mp_rank_*model_states.pt" if stage == 3 else "mp_rank_00_model_states.pt")
    )
    shards = OldShards(files, world=world, stage=stage)
    if stage == 3:
        optimizer.checkpoint_event_prologue()
    deepspeed.load_module_state_dict(first, strict=True)
    own = _zero3_shard(optimizer, shards) if stage == 3 else _sliced_shard(optimizer, shards)
    everyone = [own if number == rank() else None for number in range(world_size())]
    optimizer.load_state_dict(everyone, load_optimizer_states=True, load_from_fp32_weights=True)
    if stage == 3:
        optimizer.checkpoint_event_epilogue()
    deepspeed.global_steps = first["global_steps"]
    deepspeed.global_samples = first["global_samples"]
    deepspeed.skipped_steps = first["skipped_steps"]


def _sliced_shard(optimizer: Any, shards: OldShards) -> dict[str, Any]:
    """Return this rank's state under ZeRO 1 or 2, as its own save would have it."""
    shard = optimizer.state_dict()
    states, masters = {}, []
    for group, (parameters, master) in enumerate(
        zip(optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True)
    ):
        places = []
        for parameter in parameters:
            mapping = parameter._hp_mapping
            if mapping is not None:
                part = mapping.lp_fragment_address
                where = Stretch(part.start, part.numel, group, mapping.hp_fragment_address.start, rank())
                places.append((optimizer.param_names[parameter], where))
        names = [optimizer.param_names[parameter] for parameter in parameters]
        masters.append(_laid(shards, places, MASTER, master.numel()))
        states[group] = _states(shards, names[0], places, master.numel())
    shard["single_partition_of_fp32_groups"] = masters
    shard["base_optimizer_state"]["state"] = {group: state for group, state in states.items() if state}
    return shard


def _zero3_shard(optimizer: Any, shards: OldShards) -> dict[str, Any]:
    """Return this rank's state under ZeRO 3, as its own save would have it."""
    shard = optimizer.state_dict()
    states, masters = {}, []
    for group, (parameters, master) in enumerate(
        zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True)
    ):
        places, start = [], 0
        for parameter in parameters:
            part = math.ceil(parameter.ds_numel / world_size())
            held = max(0, min(part, parameter.ds_numel - rank() * part))
            places.append((optimizer.param_names[parameter], Stretch(rank() * part, held, group, start, rank())))
            start += part
        masters.append(_laid(shards, places, MASTER, master.numel()))
        states[group] = _states(shards, places[0][0], places, master.numel())
    shard["fp32_flat_groups"] = masters
    shard["optimizer_state_dict"]["state"] = {group: state for group, state in states.items() if state}
    return shard


def _states(shards: OldShards, name: str, places: list[tuple[str, Stretch]], numel: int) -> dict[str, Any]:
    """Return the optimizer's states of a group: those of one value per weight laid out anew, scalars as they were."""
    return {
        key: _laid(shards, places, key, numel) if torch.is_tensor(value) and value.ndim else value
        for key, value in shards.states(name).items()
    }


def _laid(shards: OldShards, places: list[tuple[str, Stretch]], key: str, numel: int) -> Tensor:
    """Return the flat tensor of a group: [numel], padding 0."""
    flat = torch.zeros(numel)
    for name, place in places:
        if place.numel:
            flat.narrow(0, place.start, place.numel).copy_(shards.read(name, key, place.begin, place.numel))
    return flat


def _only(files: Path, pattern: str) -> str:
    found = sorted(files.glob(pattern))
    if len(found) != 1:
        raise CheckpointError(
            f"{files}: expected one file {pattern}, found {len(found)}; remove this checkpoint's folder"
        )
    return str(found[0])

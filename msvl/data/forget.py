"""Take samples out of a packed set for good: an exclusion list, an index without them, and a manifest with another hash.

The shards stay as they are; nothing of msvl reads a sample that the index does not name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msvl.config.errors import DataError
from msvl.data.history import HISTORY, current_fingerprint, keep_state, past_indexes, past_states, restore_index
from msvl.data.index import SplitIndex, key_text, split_counts, study_starts, write_records
from msvl.data.ledger import Ledger, checkpoints, rows_of
from msvl.data.packed import SPLITS, PackedSet
from msvl.data.run_data import FILE as RUN_DATA
from msvl.data.run_data import RunData
from msvl.data.set_folder import MANIFEST, TOKENS, describe_files, index_file, user_cache, write_manifest
from msvl.data.storage import Location, open_location
from msvl.data.token_store import remove_tokens

EXCLUDED = "excluded.json"


@dataclass(frozen=True)
class Forgotten:
    """What `forget` did."""

    keys: tuple[str, ...]
    """Samples that were taken out now."""
    fingerprint: str
    """SHA-256 of the manifest."""
    checkpoints: tuple[tuple[Path, int], ...]
    """Checkpoints that have seen any of the named samples, and in how many of their steps."""
    unread: tuple[str, ...]
    """Runs that trained on the set and whose ledger cannot be told, with the reason."""


def forget(path: str, names: list[str], runs: Iterable[Path]) -> Forgotten:
    """Take samples out of a local set, by key, study or patient, and find the checkpoints that saw them.

    Names that were forgotten before change nothing; their checkpoints are told again.

    Raises:
        DataError: the set is remote or damaged, or a name is in none of its states.
    """
    location = open_location(path)
    if not location.is_local:
        raise DataError(
            f"{location} is not on a local disk: run `msvl data forget` where the set is kept, then copy it again"
        )
    folder = location.local_path
    try:
        packed = PackedSet.open(path, max_bad_share=1.0)
    except DataError:
        if not (folder / MANIFEST).is_file():
            raise
        restore_index(folder)
        packed = PackedSet.open(path, max_bad_share=1.0)
    _check_names(names, packed, location)
    rows = {split: rows_of(index, names) for split, index in _splits(packed).items()}
    seen, unread = _checkpoints(location, names, runs)
    keys = tuple(index.key(row) for split, index in _splits(packed).items() for row in rows[split])
    if keys:
        _take_out(packed, folder, rows)
    _remove_old_tokens(folder)
    return Forgotten(keys, current_fingerprint(location), tuple(seen), tuple(unread))


def _splits(packed: PackedSet) -> dict[str, SplitIndex]:
    return {split: packed.split(split) for split in SPLITS if packed.counts(split)["samples"]}


def _check_names(names: list[str], packed: PackedSet, location: Location) -> None:
    states = [_splits(packed), *(past_indexes(location, fingerprint) for fingerprint in past_states(location))]
    for name in names:
        if not any(len(index) and len(rows_of(index, [name])) for state in states for index in state.values()):
            raise DataError(
                f"{location} has no sample, study or patient {name}: names are the hashes of the set, as the ledger and the "
                "log show them"
            )


def _checkpoints(
    location: Location, names: list[str], runs: Iterable[Path]
) -> tuple[list[tuple[Path, int]], list[str]]:
    """Return the checkpoints that saw the samples, and the runs for which this cannot be told."""
    states = {current_fingerprint(location), *past_states(location)}
    seen, unread = [], []
    for run in runs:
        if not (run / RUN_DATA).is_file():
            continue
        if not states & {item["manifest"] for item in RunData.read(run).state["mix"]}:
            continue
        try:
            ledger = Ledger(run)
        except DataError as error:
            unread.append(f"{run}: {error}")
            continue
        found = checkpoints(run)
        rows = [rows_of(index, names) for index in ledger.indexes]
        steps = ledger.steps_of(rows, max((step for step, _ in found), default=0))
        seen += [(folder, count) for step, folder in found if (count := int(np.count_nonzero(steps <= step)))]
    return seen, unread


def _take_out(packed: PackedSet, folder: Path, rows: dict[str, np.ndarray]) -> None:
    keep_state(folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    excluded = _excluded(folder)
    for split, index in _splits(packed).items():
        gone = index.records[rows[split]]
        if not len(gone):
            continue
        excluded += [
            {
                "split": split,
                "key": key_text(record["key"]),
                "study": f"{int(record['study']):016x}",
                "patient": f"{int(record['patient']):016x}",
            }
            for record in gone
        ]
        kept = np.delete(index.records, rows[split])
        _write_index(folder / index_file(split), kept)
        _recount(manifest, split, kept)
    aside = folder / f".{EXCLUDED}.part"
    aside.write_text(json.dumps(excluded, indent=1), encoding="utf-8")
    aside.replace(folder / EXCLUDED)
    manifest["files"] = {name: file for name, file in manifest["files"].items() if not name.startswith(f"{TOKENS}/")}
    changed = [EXCLUDED, *(name for name in map(index_file, SPLITS) if name in manifest["files"])]
    manifest["files"] |= describe_files(folder, changed)
    write_manifest(folder, manifest)


def _remove_old_tokens(folder: Path) -> None:
    """Remove the token ids of texts that the index no longer names."""
    manifests = [folder / MANIFEST, *(folder / HISTORY).glob(f"*/{MANIFEST}")]
    files = [json.loads(path.read_text(encoding="utf-8"))["files"] for path in manifests]
    now, *past = [{part[name]["sha256"] for name in map(index_file, SPLITS) if name in part} for part in files]
    remove_tokens((folder / TOKENS, user_cache() / TOKENS), set().union(*past) - now)


def _excluded(folder: Path) -> list[dict[str, str]]:
    path = folder / EXCLUDED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def _write_index(path: Path, records: np.ndarray) -> None:
    aside = path.with_name(f".{path.name}.part")
    write_records(aside, [records])
    aside.replace(path)


def _recount(manifest: dict[str, Any], split: str, records: np.ndarray) -> None:
    """Write the counts of what is left into the manifest; statistics of pixels stay those of the packed images."""
    number = 0
    for shard in manifest["shards"]:
        if shard["split"] == split:
            own = records[records["shard"] == number]
            shard["samples"], shard["studies"] = len(own), len(study_starts(own["study"]))
            number += 1
    manifest["counts"][split] |= split_counts([records])

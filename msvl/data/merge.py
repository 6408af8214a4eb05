"""A packing in parts, as an array job does it, and their merging into the very set that packing in one go gives."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from msvl.config.errors import DataError
from msvl.data.pack import pack_header, pack_units, source_settings, write_errors
from msvl.data.pack_options import PackOptions
from msvl.data.pack_plan import plan
from msvl.data.packed import SPLITS
from msvl.data.partial import LOCK, PLAN, UnitRecord, load_units, open_partial, strip_partial
from msvl.data.seal import check_drops, seal
from msvl.data.set_folder import PART, file_digest
from msvl.data.study import Source


@dataclass(frozen=True)
class Part:
    """Part `number` (from 1) of `of`: every `of`-th unit of the plan."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read `2/8`. Raises DataError."""
        number, _, of = text.partition("/")
        if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
            raise DataError(f"--part {text}: give PART/OF, from 1/8 to 8/8 for eight parts")
        return cls(int(number), int(of))


def pack_part(
    source: Source, out: Path, options: PackOptions, part: Part, *, workers: int, progress: bool = True,
    command: Mapping[str, Any] | None = None,
) -> list[UnitRecord]:  # fmt: skip
    """Pack a part of a source into the folder `out`, as `pack` does; return its units.

    Whether too many records were left out is asked of the whole, when the parts are merged.
    """
    recorded = {"source": source_settings(source), "options": options.recorded()}
    units = plan(source, options)
    header = {**pack_header(source, units, recorded), "records": sum(len(unit.jobs) for unit in units),
              "units": len(units), "part": [part.number, part.of]}  # fmt: skip
    if out.exists():
        if _read_part(out) != header:
            raise DataError(f"{out} is another part or set: remove it or choose another --out")
        return list(load_units(out).values())
    mine = units[part.number - 1 :: part.of]
    with write_errors(out, workers), open_partial(out, {**header, "command": command or {}}) as partial:
        done = pack_units(source, mine, partial, options, max_dropped_share=None, workers=workers, progress=progress)
        (partial / PART).write_text(json.dumps(header, indent=1), encoding="utf-8")
        for name in (LOCK, PLAN):
            with suppress(FileNotFoundError):
                (partial / name).unlink()
        os.rename(partial, out)
    return done


def merge(out: Path, parts: Sequence[Path], *, max_dropped_share: float, progress: bool = True) -> dict[str, Any]:
    """Join all parts of a packing into the set `out`; return its manifest. Shards are linked where the disk allows it.

    Raises DataError when parts are missing, given twice, damaged or of different packings, or too many records are bad.
    """
    headers = {path: _read_part(path) for path in parts}
    _check_parts(headers)
    common = _without_part(next(iter(headers.values())))
    if out.exists():
        raise DataError(f"{out} exists: remove it or choose another folder")
    units: dict[tuple[str, int], UnitRecord] = {}
    with write_errors(out, 1), open_partial(out, common) as partial:
        for path in tqdm(parts, unit="part", desc=f"merging {out.name}", disable=not progress):
            for place, unit in load_units(path).items():
                units[place] = unit
                _take_shards(unit, path, partial)
        if len(units) != common["units"]:
            raise DataError(f"the parts hold {len(units)} of {common['units']} units: pack the incomplete part again")
        ordered = sorted(units.values(), key=lambda unit: (SPLITS.index(unit.split), unit.number))
        check_drops(ordered, common["records"], max_dropped_share)
        manifest = seal(partial, common, ordered)
        strip_partial(partial)
        os.rename(partial, out)
    return manifest


def _take_shards(unit: UnitRecord, origin: Path, target: Path) -> None:
    """Link or copy the shards of a unit. Raises DataError for one that is not as it was packed."""
    for shard in unit.shards:
        path, place = origin / shard["file"], target / shard["file"]
        if not path.is_file() or file_digest(path) != shard["sha256"]:
            raise DataError(f"shard {path} is missing or damaged: pack this part again")
        place.parent.mkdir(exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            os.link(path, place)
        except OSError:  # another disk, or one without links
            shutil.copyfile(path, place)


def _read_part(folder: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((folder / PART).read_bytes())
        number, of = header["part"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} is no finished part (made by `msvl data pack ... --part 1/4`): {PART} cannot be read ({error})"
        ) from error
    return header


def _without_part(header: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in header.items() if name != "part"}


def _check_parts(headers: Mapping[Path, Mapping[str, Any]]) -> None:
    first = next(iter(headers))
    of = headers[first]["part"][1]
    seen: dict[int, Path] = {}
    for path, header in headers.items():
        names = {*header, *headers[first]} - {"part"}
        different = sorted(name for name in names if header.get(name) != headers[first].get(name))
        if header["part"][1] != of:
            different.append("number of parts")
        if different:
            raise DataError(
                f"{path} and {first} are parts of different packings ({', '.join(different)}): pack one of them again"
            )
        number = header["part"][0]
        if number in seen:
            raise DataError(f"{seen[number]} and {path} are both part {number} of {of}: leave one away")
        seen[number] = path
    missing = [str(number) for number in range(1, of + 1) if number not in seen]
    if missing:
        raise DataError(f"part {', '.join(missing)} of {of} is missing: name its folder too, or pack it")

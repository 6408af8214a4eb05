"""docs/hardware.md: the pages that were published, one row each. `python -m launch.acceptance.hardware [PAGE.json NAME]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.acceptance.page import machine_name, render
from launch.cluster import ROOT
from msvl.config.exit_codes import USERS_TO_FIX

DOCUMENT = ROOT / "docs" / "hardware.md"
FOLDER = ROOT / "docs" / "hardware"
BEGIN, END = "<!-- rows: made by python -m launch.acceptance.hardware -->", "<!-- end of rows -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Take a page in, if one is given with the name that it gets, and write the table again."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and len(words) != 2:
        sys.stderr.write("msvl: type python -m launch.acceptance.hardware ACCEPTANCE.json NAME\n")
        return USERS_TO_FIX
    if words:
        try:
            take_in(Path(words[0]), words[1])
        except (OSError, ValueError, LookupError) as error:
            sys.stderr.write(f"msvl: {words[0]} is no page of an acceptance ({type(error).__name__}: {error})\n")
            return USERS_TO_FIX
    DOCUMENT.write_text(with_rows(DOCUMENT.read_text(encoding="utf-8"), read_records(FOLDER)), encoding="utf-8")
    return 0


def take_in(page: Path, name: str, folder: Path = FOLDER) -> None:
    """Copy the JSON of a page, and make its HTML again from it."""
    told = page.read_text(encoding="utf-8")
    shown = render(json.loads(told))
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(told, encoding="utf-8")
    (folder / f"{name}.html").write_text(shown, encoding="utf-8")


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {name: record} of all pages, sorted by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def with_rows(document: str, records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the document with the table of these records between its marks."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(records)}{END}{after}"


def table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table as Markdown."""
    columns = ("machine", "date", "verdict", "all_reduce", "slowest link", "configuration", "pairs/s", "step", "memory of a rank",
               "waiting", "open_clip's loop", "page")  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    lines += [f"| {' | '.join(_row(name, record))} |" for name, record in records.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, record: Mapping[str, Any]) -> list[str]:
    found = {check["name"]: check["found"] for check in record["checks"]}
    links, shipped = found.get("links", {}), found.get("shipped", {})
    peer = found.get("open_clip", {}).get("open_clip")
    slowest = min((link["gb_per_second"] for link in links.get("links", [])), default=None)
    failed = [check["title"] for check in record["checks"] if check["verdict"] == "failed"]
    memory = shipped.get("gpu_gb", shipped.get("main_gb"))
    return [
        machine_name(record),
        record["date"],
        "accepted" if record["accepted"] else f"failed: {', '.join(failed)}",
        f"{links['operations']['all_reduce']:.2f} GB/s" if links.get("operations") else "-",
        f"{slowest:.2f} GB/s" if slowest is not None else "-",
        record["configuration"] + ("" if record["form"] == "full" else f" ({record['form']} form)"),
        f"{shipped['pairs_per_second']:,.1f}" if shipped else "-",
        f"{shipped['step_seconds']:.3f} s" if shipped else "-",
        f"{memory:.1f} GB" if memory is not None else "-",
        f"{shipped['waiting_share']:.0%}" if shipped else "-",
        f"{peer['pairs_per_second']:,.1f} pairs/s" if peer else "-",
        f"[page](hardware/{name}.html), [JSON](hardware/{name}.json)",
    ]


if __name__ == "__main__":
    sys.exit(main())

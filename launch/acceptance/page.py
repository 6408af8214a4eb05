"""The page of an acceptance, acceptance.html and acceptance.json: what a user can publish. No path, no name of host or user."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from math import isfinite
from pathlib import Path
from string import Template
from typing import Any

from launch.acceptance.private import cleaned, leaks, secret_names
from launch.acceptance.results import Result, accepted
from msvl.config.errors import ClusterError
from msvl.evaluation import markup
from msvl.evaluation.tables import Table
from msvl.training.run_folder import git_commit

FORMAT = 1
PAGE, DATA = "acceptance.html", "acceptance.json"
COLOURS = {"passed": "#14612f", "failed": "#9b1c1c", "not run": "#5b6875"}


@dataclass(frozen=True)
class Facts:
    """What was accepted."""

    configuration: str
    """Name of the shipped one."""
    form: str
    nodes: int
    ranks_per_node: int
    minutes: float
    """Of the checks."""
    planted: str | None = None
    """The mistake that was made, to see it found."""


def write_page(folder: Path, results: Sequence[Result], facts: Facts, *, hosts: Iterable[str] = ()) -> Path:
    """Write both files; return the page's path.

    Args:
        folder: Of the acceptance.
        results: Of all checks.
        facts: What was accepted.
        hosts: Names of the nodes, which must not be told.

    Raises:
        ClusterError: The page would give something away, and is not written.
    """
    names, users = secret_names(hosts)
    record = as_record([_without_names(result, names, users) for result in results], facts)
    page, data = render(record), json.dumps(record, indent=1, allow_nan=False) + "\n"
    found = leaks(page + data, names, known=json.dumps(record["machine"]))
    if found:
        raise ClusterError(
            f"the page would tell of {found[0]}, so it was not written: this is a fault of msvl, please report it"
        )
    (folder / DATA).write_text(data, encoding="utf-8")
    (folder / PAGE).write_text(page, encoding="utf-8")
    return folder / PAGE


def _without_names(result: Result, hosts: Iterable[str], users: Iterable[str]) -> Result:
    """Clean what comes from outside: why a check failed. All else is our own words and figures."""
    return replace(result, says=cleaned(result.says, hosts, users)) if result.verdict == "failed" else result


def as_record(results: Sequence[Result], facts: Facts) -> dict[str, Any]:
    """Return what the page tells as plain values."""
    links = next((result.found for result in results if result.name == "links"), {})
    machine = {"nodes": facts.nodes, "ranks_per_node": facts.ranks_per_node} | links.get("machine", {})
    checks = [
        {
            "name": result.name,
            "title": result.title,
            "verdict": result.verdict,
            "says": result.says,
            "seconds": round(result.seconds, 1),
            "found": {key: _plain(value) for key, value in result.found.items() if key != "machine"},
        }
        for result in results
    ]
    return {
        "format": FORMAT,
        "made_by": "python -m launch.accept",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": git_commit(),
        "configuration": facts.configuration,
        "form": facts.form,
        "planted_mistake": facts.planted,
        "accepted": accepted(results),
        "minutes": round(facts.minutes, 1),
        "machine": machine,
        "checks": checks,
    }


def _plain(value: Any) -> Any:
    """Return a tree of values for JSON, which knows no infinity: None is in its place."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def render(record: Mapping[str, Any]) -> str:
    """Return the page of a record."""
    found = {check["name"]: check["found"] for check in record["checks"]}
    parts = [
        _opening(record),
        markup.section("What was checked", "", _verdicts(record["checks"])),
        markup.section("Between the ranks", _LINKS_LEAD, _links(found.get("links", {}))),
        markup.section("Losses and gradients", _EXACT_LEAD, _exact(found.get("exact", {}))),
        markup.section("A kill and a requeue", "", _kill(found.get("kill", {}))),
        markup.section("Pace and memory", _PACE_LEAD, _paces(record, found)),
        markup.section("The machine", "", _machine(record)),
        "<footer>Made by <code>python -m launch.accept</code> of msvl; this file loads nothing from the network.</footer>",
    ]
    template = importlib.resources.files("msvl.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(f"msvl on {machine_name(record)}"), body="\n".join(filter(None, parts))
    )


def machine_name(record: Mapping[str, Any]) -> str:
    """Return kind and number of the parts in a few words."""
    machine = record["machine"]
    nodes = "" if machine["nodes"] == 1 else f"{machine['nodes']} nodes, each "
    if machine.get("gpus_per_node"):
        return f"{nodes}{machine['gpus_per_node']} x {machine['gpu']} (NCCL)"
    return f"{nodes}{machine.get('cores_per_node', '?')} CPU cores (no GPU, gloo)"


_LINKS_LEAD = (
    "What a rank's link carries while all ranks work (the bus bandwidth of NCCL's tests), and each link of the ring while all "
    "others rest."
)
_EXACT_LEAD = (
    "The configured objectives on a small model and a made-up batch: all ranks through DeepSpeed, against the whole batch in one "
    "process on one device and on the CPU in float64. Largest relative differences; fp32 may miss by 1e-4, bf16 by 0.02 in a loss "
    "and 0.2 in a gradient. TF32 is off on both sides."
)
_PACE_LEAD = "Simulated radiographs, after the first interval; memory is the peak of the rank that took most."


def _opening(record: Mapping[str, Any]) -> str:
    verdict = "passed" if record["accepted"] else "failed"
    machine = record["machine"]
    shown = [
        f"{machine['nodes'] * machine['ranks_per_node']} ranks",
        f"configuration {record['configuration']}",
        f"{record['form']} form, {record['minutes']:.1f} minutes",
        record["date"],
    ]
    if record["planted_mistake"]:
        shown.append(f"with a planted mistake: {record['planted_mistake']}")
    words = (
        "Everything that was run passed."
        if record["accepted"]
        else "Not accepted: at least one check failed, or none was run."
    )
    return (
        f"<header><h1>msvl on {escape(machine_name(record))}</h1>"
        f'<p style="color:{COLOURS[verdict]};font-weight:600">{words}</p>{markup.badges(shown)}</header>'
    )


def _verdicts(checks: Sequence[Mapping[str, Any]]) -> str:
    cards = []
    for check in checks:
        joined = {"passed": "", "failed": "", "not run": "because "}[check["verdict"]]
        cards.append(
            f'<article class="card"><h3>{escape(check["title"])}</h3>'
            f'<p style="color:{COLOURS[check["verdict"]]};font-weight:600;margin:0">{check["verdict"]}</p>'
            f'<p class="text">{escape(joined + check["says"])}</p><p class="quiet">{check["seconds"]:.0f} s</p></article>'
        )
    return f'<div class="grid">{"".join(cards)}</div>'


def _links(found: Mapping[str, Any]) -> str:
    if not found.get("operations"):
        return ""
    rows = [(name, f"{value:.2f} GB/s") for name, value in found["operations"].items()]
    rows.append(("all_reduce of one number", f"{found['latency_microseconds']:,.0f} µs"))
    content = markup.table(Table(("operation", "bandwidth"), rows), f"All ranks, {found['megabytes']:g} MB in all")
    kinds = {"within a node": False, "between nodes": True}
    ring = []
    for name, between in kinds.items():
        links = sorted(link["gb_per_second"] for link in found["links"] if link["between_nodes"] is between)
        if links:
            slowest = min(
                (link for link in found["links"] if link["between_nodes"] is between),
                key=lambda link: link["gb_per_second"],
            )
            ring.append(
                (name, str(len(links)), f"{links[len(links) // 2]:.2f} GB/s", f"{links[0]:.2f} GB/s",
                 f"{slowest['source']} to {slowest['target']}")
            )  # fmt: skip
    columns = ("links", "number", "median", "slowest", "slowest between ranks")
    return content + markup.table(Table(columns, ring), "Single links of the ring")


def _exact(found: Mapping[str, Any]) -> str:
    if not found.get("cases"):
        return ""
    rows = []
    for case in found["cases"]:
        for reference, one in case["against"].items():
            rows.append((
                f"ZeRO-{case['stage']}, {case['precision']}", reference, _small(one["loss"]), one["worst_loss"],
                _small(one["gradient"]), one["worst_gradient"], "right" if one["right"] else "WRONG",
            ))  # fmt: skip
    columns = ("all ranks", "against", "loss", "of", "gradient", "of", "")
    said = [f"{found.get('collectives', 0):,} collectives were made with the strict check on, alike on all ranks."]
    said += [words for case in found["cases"] for one in case["against"].values() for words in one["words"]]
    return markup.table(Table(columns, rows), f"{found.get('pairs', '?')} pairs") + markup.notes(
        list(dict.fromkeys(said))
    )


def _small(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.1e}"


def _kill(found: Mapping[str, Any]) -> str:
    if "loss_difference" not in found:
        return ""
    gap = found["loss_difference"]
    rows = [
        ("steps", str(found["steps"])),
        ("killed by SIGKILL after step", str(found["killed_after_step"])),
        ("through Slurm's queue", "yes" if found["requeued"] else "no"),
        ("went on from the checkpoint of step", str(found["resumed_from_step"])),
        ("largest relative difference of a loss", "none: equal to the bit" if gap == 0 else _small(gap)),
        ("samples of every step", "equal" if found["samples_equal"] else "DIFFERENT"),
    ]
    return markup.table(Table(("", "found"), rows), "A run that was killed, beside one that was left alone")


def _paces(record: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> str:
    runs = {
        f"msvl, {record['configuration']}": found.get("shipped", {}),
        "msvl, global scale alone": found.get("open_clip", {}).get("msvl_global_scale", {}),
        "open_clip's loop, same encoders": found.get("open_clip", {}).get("open_clip", {}),
    }
    rows = [
        (
            name, f"{one['pairs_per_second']:,.1f}", f"{one['step_seconds']:.3f} s", f"{one['waiting_share']:.0%}",
            f"{one['gpu_gb']:.2f} GB" if "gpu_gb" in one else "-", f"{one['main_gb']:.2f} GB",
        )
        for name, one in runs.items()
        if one
    ]  # fmt: skip
    if not rows:
        return ""
    columns = ("run", "pairs/s", "step", "waiting for data", "GPU memory", "main memory of a rank")
    content = markup.table(Table(columns, rows), "Measured")
    one = found["shipped"]
    if one:
        said = [
            f"{one['parameters']:,} parameters; {one['global_batch']} pairs per step in micro-batches of {one['micro_batch']} per "
            f"rank; ZeRO-{one['zero_stage']}, {one['precision']}; {one['steps']} steps measured."
        ]
        said += [f"Measured with {one['notes']}."] if one["notes"] else []
        content += markup.notes(said)
    return content


def _machine(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    names = {
        "nodes": "nodes", "ranks_per_node": "ranks per node", "backend": "backend", "gpus_per_node": "GPUs per node", "gpu": "GPU",
        "gpu_memory_gb": "memory of a GPU in GB", "cpu": "processor", "cores_per_node": "cores per node",
        "memory_gb": "main memory of a node in GB", "cuda": "CUDA of torch", "nccl": "NCCL",
        "tf32": "TF32 in training",
    }  # fmt: skip
    rows = [(words, str(machine[key])) for key, words in names.items() if machine.get(key) not in (None, 0)]
    rows += [(name, str(version)) for name, version in machine.get("versions", {}).items()]
    rows.append(("commit", str(record["commit"] or "unknown")))
    return markup.table(Table(("", ""), rows), "Parts and versions")

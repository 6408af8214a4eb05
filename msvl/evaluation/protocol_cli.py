"""`msvl protocol list|show|diff`: what a number was measured by, and why two papers' numbers differ."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import yaml

from msvl.evaluation.protocol import Protocol, protocol_names, read_protocol
from msvl.evaluation.protocol_diff import diff_protocols

EXAMPLE = "Examples: msvl protocol list; msvl protocol show maco --data siim-acr; msvl protocol diff maco benchx"


def add_parsers(groups: Any) -> None:
    """Add `msvl protocol`."""
    parser = groups.add_parser("protocol", help="what a number was measured by", epilog=EXAMPLE)
    parser.set_defaults(run=main)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="protocols that ship, with their cards", epilog="Example: msvl protocol list --json"
    )
    show = actions.add_parser(
        "show", help="the cards of a protocol in full", epilog="Example: msvl protocol show maco --data siim-acr"
    )
    show.add_argument("protocol", help="name, or a YAML file")
    show.add_argument("--task", help="this task alone")
    show.add_argument("--data", help="this data set alone")
    diff = actions.add_parser(
        "diff", help="say in words why two protocols' figures differ", epilog="Example: msvl protocol diff maco benchx"
    )
    diff.add_argument("first", help="name, or a YAML file")
    diff.add_argument("second", help="name, or a YAML file")
    for action in (listing, show, diff):
        action.add_argument("--json", action="store_true", help="print JSON")


def main(arguments: argparse.Namespace) -> int:
    """Run the action that was typed; 0, for `diff` too."""
    actions = {"list": _list, "show": _show, "diff": _diff}
    content, text = actions[arguments.action](arguments)
    sys.stdout.write(json.dumps(content, indent=2) + "\n" if arguments.json else text)
    return 0


def _list(arguments: argparse.Namespace) -> tuple[Any, str]:
    protocols = [read_protocol(name) for name in protocol_names()]
    content = [
        {
            "name": protocol.name,
            "title": protocol.title,
            "summary": protocol.summary,
            "cards": [{"task": card.task, "data": card.data, "digest": card.digest} for card in protocol.cards],
        }
        for protocol in protocols
    ]
    return content, "\n".join(_summary(protocol) for protocol in protocols)


def _summary(protocol: Protocol) -> str:
    lines = [f"{protocol.name}: {protocol.title}", f"  {protocol.summary}"]
    for card in protocol.cards:
        leaky = f"  known faults: {len(card.leaks)}" if card.leaks else ""
        lines.append(f"  {card.task:13s} {card.data:16s} {card.digest}  {card.headline}{leaky}")
    return "\n".join(lines) + "\n"


def _show(arguments: argparse.Namespace) -> tuple[Any, str]:
    protocol = read_protocol(arguments.protocol)
    content = protocol.model_dump(mode="json", exclude_none=True)
    content["cards"] = [
        {"digest": card.digest} | card.model_dump(mode="json", exclude_none=True)
        for card in protocol.cards
        if arguments.task in (None, card.task) and arguments.data in (None, card.data)
    ]
    return content, yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)


def _diff(arguments: argparse.Namespace) -> tuple[Any, str]:
    first, second = read_protocol(arguments.first), read_protocol(arguments.second)
    found = diff_protocols(first, second)
    content = {place: [{"field": line.field, "text": line.text} for line in lines] for place, lines in found.items()}
    if not found:
        return content, f"{first.name} and {second.name} say the same.\n"
    parts = [f"{place}\n" + "".join(f"  - {line.text}\n" for line in lines) for place, lines in found.items()]
    return content, "\n".join(parts)

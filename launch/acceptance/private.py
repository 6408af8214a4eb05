"""What a page that is published must not hold: paths, and names of hosts and users. Foreign text is cleaned, then all is looked at."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable
from typing import Any

PATH = re.compile(
    r"(?<![\w.<])(?:~|file:/|\.{1,2})?/(?:[^\s/'\",:;()<>\[\]]+/?)+|(?<![\w/])[\w.@+-]+(?:/[\w.@+-]+){2,}/?"
)
"""Absolute paths, those below the home folder, and relative ones of three parts or more."""
FILE = re.compile(r"(?<![\w/])[\w.@+-]+/[\w.@+-]*\.\w+")
"""A file in a folder."""
ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\b(?:[0-9a-f]{1,4}:){3,}[0-9a-f:]*\b")
MAIL = re.compile(r"[\w.+-]+@[\w.-]+")
ABSOLUTE = re.compile(
    r"(?<![\w<])/(?:home|root|tmp|work|scratch|data|mnt|lustre|gpfs|users|opt|var|usr|srv|nfs)/", re.IGNORECASE
)


def secret_names(nodes: Iterable[str] = ()) -> tuple[set[str], set[str]]:
    """Return the names of hosts and of the user that this process knows, those of the job's nodes among the first."""
    hosts = {socket.gethostname(), socket.getfqdn(), os.environ.get("SLURMD_NODENAME", ""), *nodes}
    hosts |= {name.partition(".")[0] for name in hosts}
    users = {getpass.getuser(), os.environ.get("USER", ""), os.path.basename(os.path.expanduser("~"))}
    return {name for name in hosts if name and name != "localhost"}, {name for name in users if name}


def cleaned(text: str, hosts: Iterable[str], users: Iterable[str]) -> str:
    """Return foreign text without paths, addresses and these names."""
    for pattern, word in ((PATH, "[path]"), (FILE, "[path]"), (MAIL, "[user]"), (ADDRESS, "[address]")):
        text = pattern.sub(word, text)
    for names, word in ((hosts, "[host]"), (users, "[user]")):
        for name in sorted(names, key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", word, text, flags=re.IGNORECASE)
    return text


def clean(value: Any, hosts: Iterable[str], users: Iterable[str]) -> Any:
    """Return a tree of plain values with all its texts cleaned; keys stay."""
    if isinstance(value, str):
        return cleaned(value, hosts, users)
    if isinstance(value, dict):
        return {key: clean(item, hosts, users) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item, hosts, users) for item in value]
    return value


def leaks(page: str, hosts: Iterable[str]) -> list[str]:
    """Return what a finished page still gives away."""
    found = [match.group() for match in ABSOLUTE.finditer(page)]
    named = [name for name in hosts if re.search(r"[\d.]", name)]  # a host called "data" is in every second sentence
    return found + [name for name in named if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", page, re.IGNORECASE)]

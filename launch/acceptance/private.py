"""What a page that is published must not hold: paths, and names of hosts and users. Foreign text is cleaned, then all is looked at."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable

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
    users = {_login(), os.environ.get("USER", ""), os.path.basename(os.path.expanduser("~"))}
    return {name for name in hosts if name and name != "localhost"}, {name for name in users if name}


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number only
        return ""


def cleaned(text: str, hosts: Iterable[str], users: Iterable[str]) -> str:
    """Return foreign text without paths, addresses and these names.

    Not for our own sentences and figures: a user called "max" would lose every "max" of them.
    """
    for pattern, word in ((PATH, "[path]"), (FILE, "[path]"), (MAIL, "[user]"), (ADDRESS, "[address]")):
        text = pattern.sub(lambda found, word=word: word + "." * found.group().endswith("."), text)  # type: ignore[misc]
    for name in sorted(hosts, key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?:\.[\w-]+)*(?![\w-])", "[host]", text, flags=re.IGNORECASE)
    for name in sorted(users, key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "[user]", text, flags=re.IGNORECASE)
    return text


def leaks(page: str, hosts: Iterable[str], known: str = "") -> list[str]:
    """Return what a finished page still gives away.

    Args:
        page: All of it.
        hosts: Names of hosts.
        known: What the page says of the machine's parts; a host may be called h100 and have one.
    """
    found = [match.group() for match in ABSOLUTE.finditer(page)]
    # A host called "data" is in every second sentence; those of clusters have a number or a domain.
    named = [name for name in hosts if re.search(r"[a-z]", name, re.IGNORECASE) and re.search(r"[\d.]", name)]
    told = [name for name in named if _holds(page, name) and not _holds(known, name)]
    return found + told


def _holds(text: str, name: str) -> bool:
    return bool(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE))

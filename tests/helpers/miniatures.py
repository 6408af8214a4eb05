"""Miniature data sets for tests."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from msvl.data.pack_cli import add_pack
from msvl.data.phantom.miniatures import MINIATURES
from msvl.data.phantom.miniatures.material import draw_studies
from msvl.data.sources import SOURCES
from msvl.data.study import Entry, Source


def write_miniature(name: str, folder: Path, *, train: int = 8, val: int = 2, test: int = 2) -> Path:
    """Write a miniature of few patients and 64 px; return the folder."""
    importlib.import_module(MINIATURES[name]).write(folder, draw_studies(train=train, val=val, test=test, size=64))
    return folder


def source_of(name: str, folder: Path, *words: str) -> Source:
    """Return the source that `msvl data pack` makes of a miniature, with further options."""
    return source_from([*importlib.import_module(MINIATURES[name]).pack_words(folder), *words])


def source_from(words: list[str]) -> Source:
    """Return the source that `msvl data pack WORDS` makes."""
    parser = argparse.ArgumentParser()
    add_pack(parser.add_subparsers())
    arguments = parser.parse_args(["pack", *words, "--out", "unused"])
    source: Source = importlib.import_module(SOURCES[words[0]]).from_arguments(arguments)
    return source


def replace_in(path: Path, old: str, new: str) -> None:
    """Change a text file, compressed or not. Fails when there is nothing to change."""
    import gzip

    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    assert old in text, f"{old!r} is not in {path}"
    changed = text.replace(old, new).encode()
    path.write_bytes(gzip.compress(changed) if path.suffix == ".gz" else changed)


def by_image(entries: list[Entry]) -> dict[tuple[str, str], Entry]:
    """Return (study, image) -> entry."""
    return {(entry.study, entry.image): entry for entry in entries}

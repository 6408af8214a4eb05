"""A class of the user's own, named by import path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.machinery import PathFinder

from msvl.config.errors import ConfigError


def load_class(path: str, *, where: str) -> type:
    """Return the class that `package.module:Class` names; modules of the working folder can be imported.

    Args:
        path: package.module:Class.
        where: What asked for it, for the message.

    Raises:
        ConfigError: It cannot be imported.
    """
    module, name = _parts(path, where)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where} {path} cannot be imported: {error}") from error
    if not isinstance(found, type):
        raise ConfigError(f"{where} {path} is no class")
    return found


def check_importable(path: str, *, where: str) -> None:
    """Raise ConfigError when there is no module that `load_class` could import. Imports nothing, so no torch either."""
    module, _ = _parts(path, where)
    first, *rest = module.split(".")
    try:
        found = importlib.util.find_spec(first)
    except ValueError:  # a module without a spec, such as __main__, or no name at all
        found = None
    for part in rest:
        places = found.submodule_search_locations if found else None
        found = PathFinder.find_spec(f"{found.name}.{part}", places) if found and places else None
    if found is None:
        raise ConfigError(f"{where} {path} cannot be imported: there is no module {module} here or in the environment")


def _parts(path: str, where: str) -> tuple[str, str]:
    """Return module and class; modules of the working folder can be imported from now on."""
    module, colon, name = path.partition(":")
    if not colon:
        raise ConfigError(f"{where} {path}: expected package.module:Class")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return module, name

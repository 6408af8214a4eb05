"""A class of the user's own, named by import path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

from msvl.config.errors import ConfigError


def load_class(path: str, *, where: str) -> type:
    """Return the class that `package.module:Class` names; modules of the working folder can be imported.

    Args:
        path: package.module:Class.
        where: What asked for it, for the message.

    Raises:
        ConfigError: It cannot be imported.
    """
    module, name = _split(path, where)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where} {path} cannot be imported: {error}") from error
    if not isinstance(found, type):
        raise ConfigError(f"{where} {path} is no class")
    return found


def check_class(path: str, *, where: str) -> None:
    """Raise ConfigError when the module of `package.module:Class` cannot be found; it is not imported, its packages are."""
    module, _ = _split(path, where)
    try:
        found = importlib.util.find_spec(module)
    except ImportError as error:
        raise ConfigError(f"{where} {path} cannot be imported: {error}") from error
    if found is None:
        raise ConfigError(f"{where} {path} cannot be imported: no module {module} here or among the installed packages")


def _split(path: str, where: str) -> tuple[str, str]:
    module, colon, name = path.partition(":")
    if not colon:
        raise ConfigError(f"{where} {path}: expected package.module:Class")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return module, name

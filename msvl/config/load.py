"""YAML <- overrides -> typed: read a configuration, or say in one sentence per fault what is wrong with it."""

from __future__ import annotations

import difflib
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from msvl.config.base import Config
from msvl.config.errors import ConfigError

AnyConfig = TypeVar("AnyConfig", bound=Config)


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key given twice is an error instead of a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping and refuse doubled keys."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"line {line}: the key '{key}' stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 reads 1e-4 as text; everybody who writes a learning rate means the number.
_UniqueKeyLoader.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML with the safe loader. Raises ConfigError naming `where`."""
    try:
        return yaml.load(io.StringIO(text), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader subclass
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: this is not valid YAML: {' '.join(str(error).split())}") from error


def load_config(path: str | os.PathLike[str], overrides: Sequence[str], schema: type[AnyConfig]) -> AnyConfig:
    """Read a YAML file, apply `key.path=value` overrides and check the result against `schema`.

    Raises ConfigError that lists every fault with file, key, what was found, what is expected and the nearest known key.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(
            f"{file}: there is no such configuration file. Shipped ones lie in configs/.{_nearest_file(file)}"
        )
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as UTF-8 text: {error}") from error
    tree = parse_yaml(text, str(file))
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: expected a mapping of sections at the top, found {type(tree).__name__}")
    for override in overrides:
        _apply_override(tree, override)
    return check_config(tree, schema, where=str(file))


def check_config(tree: dict[str, Any], schema: type[AnyConfig], where: str) -> AnyConfig:
    """Validate a tree of plain values against `schema`. Raises ConfigError with all faults at once."""
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(fault, schema) for fault in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(dict.fromkeys(lines))) from error


def _nearest_file(file: Path) -> str:
    if not file.parent.is_dir():
        return ""
    names = [entry.name for entry in file.parent.glob("*.yaml")]
    close = difflib.get_close_matches(file.name, names, n=1)
    return f" Did you mean {file.parent / close[0]}?" if close else ""


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override '{override}': expected key.path=value, for example train.steps=100")
    *parents, leaf = key.strip().lstrip("-").split(".")
    node = tree
    for depth, parent in enumerate(parents):
        child = node.get(parent)
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override '{override}': {'.'.join(parents[: depth + 1])} is a value, not a section")
        node = child
    node[leaf] = parse_yaml(value, f"override '{override}'")


def _explain(fault: Any, schema: type[BaseModel]) -> str:
    location = [str(part) for part in fault["loc"]]
    key = ".".join(location)
    found = fault.get("input")
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_did_you_mean(location, schema)}"
    if fault["type"] == "missing":
        return f"the key '{key}' is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{key}: {message}" if key else message
    shown = repr(found) if len(repr(found)) <= 60 else repr(found)[:57] + "..."
    return f"{key}: found {shown} ({type(found).__name__}), expected: {message.removeprefix('Input should be ')}"


def _did_you_mean(location: list[str], schema: type[BaseModel]) -> str:
    known = sorted(set(_key_paths(schema)))
    path, leaf = ".".join(location), location[-1]
    parent = ".".join(location[:-1])
    siblings = [name for name in known if name.rpartition(".")[0] == parent]
    close = difflib.get_close_matches(path, siblings, n=1, cutoff=0.6) or [
        name for name in known if name.rpartition(".")[2] == leaf
    ]
    close = close or difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    if close:
        return f": did you mean '{close[0]}'?"
    return f": known keys here are {', '.join(name.rpartition('.')[2] for name in siblings)}"


def _key_paths(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in schema.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield path
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                yield from _key_paths(candidate, f"{path}.")

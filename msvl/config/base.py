"""The base of every configuration class: typed, frozen, unknown keys forbidden, a docstring under each field."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A section of a configuration file.

    Defaults live here and nowhere else. Subclasses put the meaning, the unit and the default's source under each field.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=False,
        populate_by_name=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

"""Read published encoders by transformers' own loaders: quietly, whole on every rank, faults as one sentence."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PretrainedConfig, PreTrainedModel
from transformers.integrations import deepspeed as hf_deepspeed
from transformers.utils import logging as hf_logging

from msvl.config.errors import CheckpointError

logger = logging.getLogger(__name__)

LOAD_FAULTS = (OSError, ValueError, RuntimeError, KeyError, SafetensorError, pickle.UnpicklingError)
"""What transformers raises for files that are missing, cut, of another shape or unsafe."""


def published_settings(name: str, *, key: str, model_types: tuple[str, ...]) -> dict[str, Any]:
    """Return the content of config.json of a local folder or hub name.

    Args:
        name: Folder or hub name.
        key: Configuration key that names it, for messages.
        model_types: The `model_type` values that fit.

    Raises:
        CheckpointError: It cannot be read, or holds another kind of model.
    """
    try:
        settings, _ = PretrainedConfig.get_config_dict(name)
    except LOAD_FAULTS as error:
        raise CheckpointError(_not_found(name, key)) from error
    if not settings:
        raise CheckpointError(_not_found(name, key))
    # Files older than the key are trusted: what does not fit shows as missing weights.
    found = settings.get("model_type", model_types[0])
    if found not in model_types:
        raise CheckpointError(
            f"{key} '{name}' holds a model of type '{found}', expected {' or '.join(model_types)}: choose other weights"
        )
    return dict(settings)


def load_published_model(
    model_class: type[PreTrainedModel], name: str, *, key: str, **options: Any
) -> tuple[Any, set[str]]:
    """Load a published model.

    Returns:
        The model in float32 and the names of its weights that the files lack.

    Raises:
        CheckpointError: The files are missing or unreadable.
    """
    with whole_parameters(), _quiet():
        try:
            loaded: Any = model_class.from_pretrained(name, output_loading_info=True, dtype="float32", **options)
        except LOAD_FAULTS as error:
            if Path(name).is_dir():
                detail = " ".join(str(error).split())[:200]
                raise CheckpointError(f"{key} '{name}': its weights cannot be read, copy it again: {detail}") from error
            raise CheckpointError(_not_found(name, key)) from error
    model, report = loaded
    return model, set(report["missing_keys"])


def refuse_missing(missing: list[str], *, name: str, key: str) -> None:
    """Raise CheckpointError when an encoder would silently stay random in part."""
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise CheckpointError(f"{key} '{name}' lacks {len(missing)} weights of the encoder ({shown}): choose others")


@contextmanager
def whole_parameters() -> Iterator[None]:
    """Keep transformers from partitioning what it loads or initialises while DeepSpeed's ZeRO-3 is configured.

    accelerate tells transformers about stage 3 through a global; our root module is partitioned later, as a whole.
    """
    # No public getter exists, and only an object that is still alive can be set again.
    reference = hf_deepspeed._hf_deepspeed_config_weak_ref
    settings = reference() if reference is not None else None
    hf_deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if settings is not None:
            hf_deepspeed.set_hf_deepspeed_config(settings)


@contextmanager
def _quiet() -> Iterator[None]:
    level, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bar:
            hf_logging.enable_progress_bar()


def _not_found(name: str, key: str) -> str:
    if Path(name).is_dir():
        return f"{key} '{name}': the folder has no readable config.json, save the model there with save_pretrained"
    return (
        f"{key} '{name}' is neither a folder here nor a model that can be downloaded now: on a machine with internet "
        f"run `hf download {name} --local-dir FOLDER`, then set {key} to FOLDER"
    )

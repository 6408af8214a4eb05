"""Anybody's contrastive loss, named by import path: two linear encoders, one process, and N ranks under plain averaging."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from msvl.collectives.reduce import mean, mean_of
from msvl.collectives.world import rank, world_size
from msvl.config.errors import ConfigError
from msvl.config.imports import load_class
from msvl.training.gradcheck.compare import Measured, gradient_of

WIDTH, CHANNELS = 12, 8


class _Pairs(nn.Module):
    """Two encoders and the logit scale that a loss may ask for."""

    def __init__(self, loss: nn.Module, where: str) -> None:
        super().__init__()
        self.where = where
        self.image, self.text = nn.Linear(WIDTH, CHANNELS), nn.Linear(WIDTH, CHANNELS)
        self.logit_scale, self.logit_bias = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([-2.0]))
        self.loss = loss

    def forward(self, image: Tensor, text: Tensor, pairs: Tensor) -> Tensor:
        image = nn.functional.normalize(self.image(image), dim=-1)
        text = nn.functional.normalize(self.text(text), dim=-1)
        wanted = inspect.signature(self.loss.forward).parameters
        if "ref_emb" in wanted:  # metric learning: embeddings with labels against others with theirs
            positional: tuple[Tensor, ...] = (image,)
            extra = {"labels": pairs, "ref_emb": text, "ref_labels": pairs}
        else:
            positional, extra = (image, text), {}
            if "logit_scale" in wanted:
                extra["logit_scale"] = self.logit_scale.exp().squeeze()
            if "logit_bias" in wanted and wanted["logit_bias"].default is inspect.Parameter.empty:
                extra["logit_bias"] = self.logit_bias.squeeze()
        given = ", ".join([*("image", "text")[: len(positional)], *extra])
        _check_call(self.loss.forward, positional, extra, f"{self.where}: its forward cannot be called with ({given})")
        return self._checked(_value(self.loss(*positional, **extra)))

    def _checked(self, value: Any) -> Tensor:
        """Return the loss if it is one number with a gradient."""
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"{self.where}: its forward returned {type(value).__name__}, expected a tensor with one number"
            )
        if value.numel() != 1:
            raise ConfigError(
                f"{self.where}: its forward returned a tensor {list(value.shape)}, expected one number: reduce it by its mean"
            )
        if not value.requires_grad:
            raise ConfigError(f"{self.where}: the loss carries no gradient; is it computed under no_grad or detached?")
        return value


def _check_call(function: Any, positional: tuple[Any, ...], named: dict[str, Any], complaint: str) -> None:
    """Raise ConfigError where the arguments do not fit the signature."""
    try:
        inspect.signature(function).bind(*positional, **named)
    except TypeError as error:
        raise ConfigError(f"{complaint}: {error}. Its signature is {inspect.signature(function)}; a thin adapter helps "
                          "(docs/faults.md shows one)") from error  # fmt: skip


def _value(found: Any) -> Any:
    """Return the loss of an answer: a tensor, a dict with `loss` or of terms, or an object with a field `loss`."""
    if isinstance(found, dict):
        found = found.get("loss", sum(found.values()))
    return getattr(found, "loss", found)


def measure_foreign(path: str, options: dict[str, Any], pairs: int) -> Measured:
    """Collective. Return the loss and the averaged gradients of this world's share of one batch.

    Args:
        path: package.module:Class. Built with `options`, and with `rank` and `world_size` where its constructor takes
            them; called with image and text features [b, C] of unit length, and logit_scale and logit_bias where it
            takes them (an optional bias is left out). A forward with `ref_emb` is called the way of metric learning:
            image features, labels, ref_emb = text features, ref_labels, where a label is the number of the pair.
        options: Of the constructor. A mapping with the key `class` is built first: a loss inside a wrapper.
        pairs: Of the global batch.
    """
    torch.manual_seed(1)
    module = _Pairs(_built(path, options, where="--loss"), where=f"--loss {path}")
    generator = torch.Generator().manual_seed(2)
    shared = torch.randn(pairs, WIDTH, generator=generator)
    image = shared + 0.5 * torch.randn(pairs, WIDTH, generator=generator)
    text = shared + 0.5 * torch.randn(pairs, WIDTH, generator=generator)
    block = slice(rank() * pairs // world_size(), (rank() + 1) * pairs // world_size())
    value = module(image[block], text[block], torch.arange(pairs)[block])
    value.backward()
    gradients = {name: mean(gradient_of(parameter)) for name, parameter in module.named_parameters()}
    return Measured(losses=mean_of({"loss": value}), gradients={"loss": gradients})


def _built(path: str, options: dict[str, Any], *, where: str) -> nn.Module:
    """Return the loss, with `rank` and `world_size` where its constructor takes them."""
    kind = load_class(path, where=where)
    if not issubclass(kind, nn.Module):
        raise ConfigError(f"{where} {path} is no torch.nn.Module")
    taken = inspect.signature(kind).parameters
    known = {name: value for name, value in (("rank", rank()), ("world_size", world_size())) if name in taken}
    given = {
        name: _built(value["class"], {key: item for key, item in value.items() if key != "class"}, where=f"--option {name}")
        if isinstance(value, dict) and "class" in value
        else value
        for name, value in options.items()
    }  # fmt: skip
    complaint = f"{where} {path} cannot be built from --option {sorted(given) or 'nothing'}"
    _check_call(kind, (), known | given, complaint)
    try:
        loss: nn.Module = kind(**(known | given))
    except TypeError as error:  # nn.Module's own constructor takes any name by its signature, and then refuses it
        raise ConfigError(f"{complaint}: {error}") from error
    return loss


def foreign_groups(names: list[str]) -> dict[str, str]:
    """Return parameter -> the words for its group."""
    known = {"image.": "encoder", "text.": "encoder", "logit_scale": "logit_scale", "logit_bias": "logit_bias"}
    return {
        name: next((group for prefix, group in known.items() if name.startswith(prefix)), "the loss's own parameters")
        for name in names
    }

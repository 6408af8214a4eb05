"""The whole root module of every shipped configuration on the `meta` device: no size and no branch depends on a value.

A meta tensor has no values, so what would make a GPU wait for the answer to "how many?" or "which?" raises here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.one_rank import ranks
from msvl.collectives.strict import recording
from msvl.config.load import check_config, load_config
from msvl.data.batch import Batch
from msvl.objectives.parts import differentiable, with_differentiable
from msvl.training.config import PretrainConfig
from msvl.training.gradcheck.own import build_module, made_up_batch
from msvl.training.gradcheck.sizes import shrink
from msvl.training.module import PretrainModule
from tests.helpers.runs import ROOT

CONFIGS = sorted((ROOT / "configs" / "pretrain").glob("*.yaml"))
PAIRS = 4


def on_meta(path: Path) -> tuple[PretrainModule, Batch]:
    """Return the module of a configuration, shrunk, and a batch that never had values there."""
    tree = load_config(path, [], PretrainConfig).model_dump(mode="json", by_alias=True)
    config = check_config(shrink(tree), PretrainConfig, where=path.name)
    return build_module(config).to("meta"), made_up_batch(config, PAIRS).to("meta")


@pytest.mark.evidence("A step of every shipped configuration has no size or branch that depends on data", how="traced")
@pytest.mark.parametrize("world", [1, 8])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_step_looks_at_no_value(path: Path, world: int) -> None:
    with ranks(world), recording() as calls:
        module, batch = on_meta(path)
        losses = module(batch)
        assert isinstance(losses, dict)
        losses["total"].backward()
    assert all(value.device.type == "meta" for value in losses.values())
    silent = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert not [name for name in silent if "encoder" in name or "projection" in name or "scales" in name], silent
    assert calls


@pytest.mark.evidence("Gradient caching has no size or branch that depends on data", how="traced")
def test_micro_batches_look_at_no_value() -> None:
    """The three passes of `accumulation: cached`, without the engine around them."""
    module, batch = on_meta(ROOT / "configs" / "pretrain" / "mimic_cxr.yaml")
    first, second = batch.split(2)
    with torch.no_grad():
        embeddings = module(second, embed_only=True)
    leaves = {name: value.detach().requires_grad_() for name, value in differentiable(embeddings).items()}
    losses = module(first, others=[with_differentiable(embeddings, leaves)], ids=batch.ids)
    losses["total"].backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    assert set(gradients) >= {"image", "text", "patches", "sentences", "masked_image", "masked_text", "token_loss"}
    module(second, gradients=gradients)["total"].backward()


LOOKS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda values: values.sum().item(),
    "branch": lambda values: bool((values > 0).any()),
    "nonzero": lambda values: values.nonzero(),
    "mask as an index": lambda values: values[values > 0],
    "masked_select": lambda values: values.masked_select(values > 0),
    "unique": lambda values: values.unique(),
    "tolist": lambda values: values.tolist(),
    "repeat_interleave": lambda values: values.repeat_interleave(values.long()),
}


@pytest.mark.parametrize("look", LOOKS)
def test_the_meta_device_would_tell(look: str) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        LOOKS[look](torch.ones(4, device="meta"))

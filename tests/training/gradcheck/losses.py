"""Contrastive losses as people write them, for `msvl gradcheck --loss`."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from msvl.collectives.gather import gather
from msvl.collectives.world import rank


class Exact(nn.Module):
    """Own rows against all, both directions, with gradient."""

    def forward(self, image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
        all_image, all_text = gather(image), gather(text)
        own = torch.arange(len(image)) + rank() * len(image)
        rows = logit_scale * image @ all_text.T
        columns = logit_scale * text @ all_image.T
        return nn.functional.cross_entropy(rows, own) + nn.functional.cross_entropy(columns, own)


class WithoutGradient(nn.Module):
    """The whole matrix on every rank from tensors gathered without gradient, the own block put back in."""

    def __init__(self, world_size: int, rank: int, factor: float = 1.0) -> None:
        super().__init__()
        self.world, self.rank, self.factor = world_size, rank, factor

    def forward(self, image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
        found = []
        for local in (image, text):
            parts = [torch.zeros_like(local) for _ in range(self.world)]
            dist.all_gather(parts, local.detach())
            parts[self.rank] = local
            found.append(torch.cat(parts))
        logits = self.factor * logit_scale * found[0] @ found[1].T
        own = torch.arange(len(logits))
        return nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.T, own)


class Wrapper(nn.Module):
    """Metric learning's call: embeddings and labels, references and theirs; the loss itself comes as an option."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor) -> dict[str, Tensor]:
        expected = torch.arange(len(labels)) + rank() * len(labels)
        if not (torch.equal(labels, expected) and torch.equal(ref_labels, expected)):
            raise ValueError(f"labels {labels.tolist()} are no numbers of pairs")
        return {"loss": self.loss(embeddings, ref_emb, torch.tensor(5.0))}


class OptionalBias(Exact):
    """A bias that may stay away, as in open_clip's ClipLoss."""

    def forward(self, image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor | None = None) -> Tensor:
        if logit_bias is not None:
            raise ValueError("the bias was not asked for")
        return super().forward(image, text, logit_scale)


class OfADict(nn.Module):
    """SLIP's call: everything in one dict."""

    def forward(self, outputs: dict[str, Tensor]) -> Tensor:
        return Exact()(outputs["image_embed"], outputs["text_embed"], outputs["logit_scale"])


class OfEveryPair(nn.Module):
    """Not reduced."""

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return (image - text).square().sum(dim=1)[:4]


class Detached(nn.Module):
    """Cut off from the encoders."""

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return (image - text).square().mean().detach()

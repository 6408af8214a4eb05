"""Objectives as people write them, for `gradcheck.suite.faults_of`: one that is right, and mistakes of several kinds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msvl.collectives.reduce import total
from msvl.collectives.world import rank
from msvl.objectives.scale import ScaleOutput, StepContext


class Ranking(nn.Module):
    """Every gathered report must be less similar to an image than its own; a learnt factor."""

    def __init__(self, *, channels: int, seed: int, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin
        self.factor = nn.Parameter(torch.tensor([1.5]))

    def forward(self, context: StepContext) -> ScaleOutput:
        gaps = self.gaps(context.embeddings.image, context.gathered.text, context.gathered.own)
        return ScaleOutput(loss=gaps.mean(), metrics={"ranking_gap": gaps.detach().mean()})

    def gaps(self, image: Tensor, text: Tensor, own: Tensor) -> Tensor:
        similarity = self.factor * image @ text.T
        true = similarity.gather(1, own.unsqueeze(1))
        return nn.functional.softplus(self.margin - true + similarity)


class Summed(Ranking):
    """A sum over own rows: its mean over ranks is no loss of the global batch."""

    def forward(self, context: StepContext) -> ScaleOutput:
        answer = super().forward(context)
        return ScaleOutput(loss=answer.loss * len(context.embeddings.image), metrics={})


class RankLocal(Ranking):
    """Own reports only."""

    def forward(self, context: StepContext) -> ScaleOutput:
        embeddings = context.embeddings
        gaps = self.gaps(
            embeddings.image, embeddings.text, torch.arange(len(embeddings.image), device=embeddings.image.device)
        )
        return ScaleOutput(loss=gaps.mean(), metrics={})


class DetachedGather(Ranking):
    """No gradient reaches other ranks' reports."""

    def forward(self, context: StepContext) -> ScaleOutput:
        text = context.gathered.text.detach().clone()
        text[context.gathered.own] = context.embeddings.text
        return ScaleOutput(loss=self.gaps(context.embeddings.image, text, context.gathered.own).mean(), metrics={})


class LocalMetric(Ranking):
    """A metric that is no mean over ranks."""

    def forward(self, context: StepContext) -> ScaleOutput:
        answer = super().forward(context)
        return ScaleOutput(loss=answer.loss, metrics={"pairs": torch.tensor(float(len(context.embeddings.image)))})


class OneRankTalks(Ranking):
    """A collective that only rank 0 calls."""

    def forward(self, context: StepContext) -> ScaleOutput:
        answer = super().forward(context)
        if rank() == 0:
            total(answer.loss)
        return answer


class Filtering(Ranking):
    """A size that depends on data."""

    def forward(self, context: StepContext) -> ScaleOutput:
        gaps = self.gaps(context.embeddings.image, context.gathered.text, context.gathered.own)
        return ScaleOutput(loss=gaps[gaps > 0].mean(), metrics={})


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient / 2


class WrongBackward(Ranking):
    """Half of its gradient."""

    def forward(self, context: StepContext) -> ScaleOutput:
        answer = super().forward(context)
        return ScaleOutput(loss=_Halved.apply(answer.loss), metrics=answer.metrics)


class Cut(Ranking):
    """No gradient."""

    def forward(self, context: StepContext) -> ScaleOutput:
        return ScaleOutput(loss=super().forward(context).loss.detach(), metrics={})


class OfEveryPair(Ranking):
    """Not reduced, and a metric with gradient."""

    def forward(self, context: StepContext) -> ScaleOutput:
        gaps = self.gaps(context.embeddings.image, context.gathered.text, context.gathered.own).mean(dim=1)
        return ScaleOutput(loss=gaps, metrics={"worst": gaps.max()})


class BareTensor(Ranking):
    """No ScaleOutput."""

    def forward(self, context: StepContext) -> Tensor:  # type: ignore[override]
        return super().forward(context).loss

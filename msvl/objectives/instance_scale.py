"""Instance scale, L_im: does this report belong to this image? Hard negatives come from all ranks.

b own pairs, G pairs of all ranks, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from msvl.collectives.reduce import ratio_of_totals
from msvl.models.noise import hash_uniform
from msvl.objectives.blocks import row_blocks
from msvl.objectives.config import InstanceScaleConfig
from msvl.objectives.precision import full_precision
from msvl.objectives.scale import ScaleOutput, StepContext

STREAM_TEXT, STREAM_IMAGE = 101, 102
"""Keep the noise of the two draws apart from each other and from that of the masks."""


def draw_negatives(
    similarity: Tensor, candidates: Tensor, noise: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """Draw one negative per row with probability softmax(similarity / temperature) over the candidates (Gumbel-max).

    Args:
        similarity: [r, G], a block of rows.
        candidates: [r, G] bool.
        noise: [r, G] uniform in [0, 1), keyed so that a draw does not depend on the number of ranks.
        temperature: Of the softmax.

    Returns:
        chosen [r] int64, and valid [r] bool (False where a row has no candidate).
    """
    # ALBEF's rule as an arg-max; the smallest noise keeps the double logarithm finite.
    score = noise.double().clamp_(min=2.0**-26).log_().neg_().log_().neg_()
    score.add_(similarity.double().div_(temperature)).masked_fill_(~candidates, float("-inf"))
    return score.argmax(dim=1), candidates.any(dim=1)


class InstanceScale(nn.Module):
    """L_im = binary cross entropy of a matching head: is this report of this image?

    Pairs: the true ones, (image, negative report) and (negative image, report). The two embeddings are concatenated on
    the channel axis, then two linear layers with a ReLU between (without it the head would be linear in v and t apart
    and could not tell pairs from non-pairs). A true pair weighs as much as its negatives, so that the decision lies at a
    logit of 0 and chance at log 2; the mean is over the global batch. An anchor without an admissible negative takes no
    part.
    """

    def __init__(self, config: InstanceScaleConfig, *, channels: int, seed: int) -> None:
        super().__init__()
        width = config.width or channels
        self._temperature = config.temperature
        self._exclude = config.duplicates == "exclude"
        self._seed = seed
        # Unit-length embeddings have entries of 1 / sqrt(C); the head wants entries near 1.
        self._gain = channels**0.5
        self.hidden = nn.Linear(2 * channels, width)
        self.output = nn.Linear(width, 1)
        self._start_comparing()

    @torch.no_grad()
    def _start_comparing(self) -> None:
        """Start the head as a comparison: rows w (v + t) vote for a pair, rows w (v - t) against it.

        From random rows, the head stays at its chance value for hundreds of steps: a sum of one function of the image
        and one of the report tells nothing apart, and only the ReLU's curvature leads away from it.
        """
        quarter = self.hidden.out_features // 4
        rows = torch.randn(quarter, self.hidden.in_features // 2) * (self.hidden.in_features // 2) ** -0.5
        signs = ((1, 1), (-1, -1), (1, -1), (-1, 1))
        self.hidden.weight[: 4 * quarter] = torch.cat([torch.cat([a * rows, b * rows], dim=1) for a, b in signs])
        vote = self.hidden.out_features**-0.5
        self.output.weight[0, : 4 * quarter] = torch.tensor([vote, vote, -vote, -vote]).repeat_interleave(quarter)

    def forward(self, context: StepContext) -> ScaleOutput:
        """Collective. Return the loss of this rank's anchors with negatives from all ranks."""
        gathered, embeddings = context.gathered, context.embeddings
        image, text = full_precision(embeddings.image), full_precision(embeddings.text)
        (text_negative, text_valid), (image_negative, image_valid) = self.negatives(context)
        left = torch.cat([image, image, gathered.image[image_negative]])
        right = torch.cat([text, gathered.text[text_negative], text])
        b = image.shape[0]
        target = torch.cat([image.new_ones(b), image.new_zeros(2 * b)])
        drawn = torch.stack([text_valid, image_valid]).to(image.dtype)
        weight = torch.cat([drawn.sum(dim=0), drawn[0], drawn[1]])
        logits = self._match(left, right)
        losses = binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = ratio_of_totals((losses * weight).sum(), weight.sum())
        return ScaleOutput(loss=loss, metrics=self._metrics(logits.detach(), target, weight))

    @torch.no_grad()
    def negatives(self, context: StepContext) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Draw a report for each own image and an image for each own report: places in the global batch, and validity.

        The noise is keyed by step and by both samples, so that one process and N draw the same pairs.
        """
        gathered, embeddings = context.gathered, context.embeddings
        image, text = full_precision(embeddings.image), full_precision(embeddings.text)
        blocks = [
            (
                *self._draw(context, rows, STREAM_TEXT, image[rows] @ gathered.text.T),
                *self._draw(context, rows, STREAM_IMAGE, text[rows] @ gathered.image.T),
            )
            for rows in row_blocks(len(image), len(gathered.image))
        ]
        reports, has_report, images, has_image = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        return (reports, has_report), (images, has_image)

    def _draw(self, context: StepContext, rows: slice, stream: int, similarity: Tensor) -> tuple[Tensor, Tensor]:
        gathered = context.gathered
        noise = hash_uniform(
            self._seed, context.step, stream, context.ids.sample[rows].unsqueeze(1), gathered.ids.sample.unsqueeze(0)
        )
        candidates = gathered.allowed(rows) if self._exclude else torch.ones_like(noise, dtype=torch.bool)
        candidates = candidates.scatter_(1, gathered.own[rows].unsqueeze(1), False)
        return draw_negatives(similarity, candidates, noise, temperature=self._temperature)

    def _match(self, image: Tensor, text: Tensor) -> Tensor:
        pair = self._gain * torch.cat([image, text], dim=1)
        logits = self.output(torch.relu(self.hidden(pair.to(self.hidden.weight.dtype))))
        return full_precision(logits.squeeze(1))

    def _metrics(self, logits: Tensor, target: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Collective."""
        right = ((logits > 0) == (target > 0)).to(weight.dtype)
        true, drawn = weight * target, weight * (1 - target)
        positive = ratio_of_totals((right * true).sum(), true.sum())
        negatives = ratio_of_totals((right * drawn).sum(), drawn.sum())
        return {
            "matching_accuracy_true_pairs": positive,
            "matching_accuracy_negatives": negatives,
            "matching_accuracy_hard": (positive + negatives) / 2,
        }

"""The method's losses, written as one reads them in the paper: loops over pairs in float64, one process, no tricks.

G pairs, N patches, C channels; `allowed[i][k]` says whether pair k may stand in a denominator of pair i. Written from
the equations alone; nothing here comes from the package. Tensors are torch's, so that gradients can be compared too.
"""

from __future__ import annotations

import torch
from torch import Tensor


def allowed_pairs(text: list[int], study: list[int], patient: list[int]) -> list[list[bool]]:
    """Pairs of different text, study and patient, and each pair with itself."""
    count = len(text)
    return [
        [i == k or (text[i] != text[k] and study[i] != study[k] and patient[i] != patient[k]) for k in range(count)]
        for i in range(count)
    ]


def everything(count: int) -> list[list[bool]]:
    """No pair is excluded."""
    return [[True] * count for _ in range(count)]


def one_way(score: list[list[Tensor]], allowed: list[list[bool]]) -> Tensor:
    """Mean over rows i of -log(exp(score_ii) / sum over allowed k of exp(score_ik))."""
    terms = []
    for i, row in enumerate(score):
        denominator = sum(torch.exp(row[k]) for k in range(len(row)) if allowed[i][k])
        terms.append(torch.log(denominator) - row[i])
    return sum(terms) / len(terms)


def two_way(score: list[list[Tensor]], allowed: list[list[bool]]) -> Tensor:
    """Both directions summed."""
    transposed = [[score[k][i] for k in range(len(score))] for i in range(len(score))]
    return one_way(score, allowed) + one_way(transposed, allowed)


def products(left: Tensor, right: Tensor, scale: Tensor | float) -> list[list[Tensor]]:
    """[G, C] x [G, C] -> scale * <left_i, right_k>."""
    return [[scale * sum(a * b for a, b in zip(one, other, strict=True)) for other in right] for one in left]


def global_loss(image: Tensor, text: Tensor, scale: Tensor | float, allowed: list[list[bool]]) -> Tensor:
    """L_g."""
    return two_way(products(image, text, scale), allowed)


def matching(patches: Tensor, sentences: Tensor, *, temp1: float, temp2: float, over_units_first: bool) -> Tensor:
    """GLoRIA's Z of one image [N, C] and one report [n, C] (its own sentences only)."""
    units = [list(row) for row in sentences @ patches.T]
    if over_units_first:
        for j in range(len(patches)):
            total = sum(torch.exp(units[n][j]) for n in range(len(sentences)))
            for n in range(len(sentences)):
                units[n][j] = torch.exp(units[n][j]) / total
    summed = torch.zeros((), dtype=torch.float64)
    for n, sentence in enumerate(sentences):
        weights = [torch.exp(temp1 * value) for value in units[n]]
        context = sum(weight / sum(weights) * patch for weight, patch in zip(weights, patches, strict=True))
        cosine = (context * sentence).sum() / (context.norm() * sentence.norm())
        summed = summed + torch.exp(temp2 * cosine)
    return torch.log(summed)


def local_loss(
    patches: Tensor, reports: list[Tensor], allowed: list[list[bool]], *, temps: tuple[float, float, float],
    over_units_first: bool = True,
) -> Tensor:  # fmt: skip
    """L_l of patches [G, N, C] and reports, each [own number of sentences, C]."""
    score = [
        [
            temps[2] * matching(image, report, temp1=temps[0], temp2=temps[1], over_units_first=over_units_first)
            for report in reports
        ]
        for image in patches
    ]
    return two_way(score, allowed)


def negative_probabilities(similarity: Tensor, allowed: list[list[bool]], temperature: float) -> Tensor:
    """ALBEF's rule: softmax over the row, what may not be drawn set to zero, normalised again. Own pair never."""
    weights = torch.softmax(similarity.double() / temperature, dim=1)
    for i in range(len(weights)):
        for k in range(len(weights)):
            if i == k or not allowed[i][k]:
                weights[i][k] = 0
    return weights / weights.sum(dim=1, keepdim=True)


def instance_loss(pairs: list[tuple[Tensor, Tensor, int]], head: dict[str, Tensor], gain: float) -> Tensor:
    """L_im: mean binary cross entropy over (image, report, label), two linear layers on the concatenation."""
    terms = []
    for image, text, label in pairs:
        hidden = head["hidden.weight"] @ (gain * torch.cat([image, text])) + head["hidden.bias"]
        logit = (head["output.weight"] @ torch.relu(hidden) + head["output.bias"])[0]
        probability = 1 / (1 + torch.exp(-logit))
        terms.append(-torch.log(probability if label else 1 - probability))
    return sum(terms) / len(terms)


def reconstruction_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """L_mae: mean over images, masked patches and pixels."""
    total = sum((p - t) ** 2 for p, t in zip(prediction.flatten(), target.flatten(), strict=True))
    return total / prediction.numel()


def masked_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L_mlm: mean over all masked tokens of all reports; a label of -100 is no masked token."""
    terms = [
        torch.log(sum(torch.exp(value) for value in logits[i, k])) - logits[i, k, labels[i, k]]
        for i in range(labels.shape[0])
        for k in range(labels.shape[1])
        if labels[i, k] != -100
    ]
    return sum(terms) / len(terms)


def cross_sample_loss(
    masked: Tensor, whole: Tensor, scale: Tensor | float, allowed: list[list[bool]]
) -> Tensor:  # fmt: skip
    """The commission's term: the masked embedding picks its own whole one among all."""
    return one_way(products(masked, whole, scale), allowed)

"""Where in an image the encoder sees a finding: patches nearer to its positive prompts than to its negative ones.

M images, C shared channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from msvl.evaluation.encoders import Encodes, PhrasePairs, Tokenises, encode_images, encode_prompts
from msvl.evaluation.prompts import PromptSet
from msvl.evaluation.tasks.zero_shot import ensembles, flat_prompts


def finding_maps(
    model: Encodes, tokeniser: Tokenises, prompts: PromptSet, wanted: Sequence[tuple[Tensor, str]], *, batch_size: int
) -> list[Tensor | None]:
    """Return for each wanted image and finding the cosine with the positive side minus that with the negative one.

    Args:
        model: With patches and texts in one space.
        tokeniser: The model's.
        prompts: Of the findings.
        wanted: M images uint8 [1, H, W], each with the finding to look for.
        batch_size: Images and prompts per forward pass.

    Returns:
        M maps [rows, columns]; None where the finding has no prompts.
    """
    places = [place for place, (_, finding) in enumerate(wanted) if finding in prompts.findings]
    found: list[Tensor | None] = [None] * len(wanted)
    if not places:
        return found
    vectors = _sides(model, tokeniser, prompts, batch_size)
    phrases = torch.cat([vectors[wanted[place][1]] for place in places])
    rows = torch.arange(len(places)).repeat_interleave(2)
    images = torch.stack([wanted[place][0] for place in places])
    maps = encode_images(model, images, batch_size=batch_size, pairs=PhrasePairs(rows, phrases)).pair_maps
    for place, own in zip(places, maps[0::2] - maps[1::2], strict=True):
        found[place] = own
    return found


def _sides(model: Encodes, tokeniser: Tokenises, prompts: PromptSet, batch_size: int) -> Mapping[str, Tensor]:
    """Return finding -> [2, C], its positive and its negative side as a sentence."""
    sentences = encode_prompts(model, tokeniser, flat_prompts(prompts), batch_size=batch_size).sentence
    sides = ensembles(prompts, sentences)
    return {name: sides[2 * place : 2 * place + 2] for place, name in enumerate(prompts.findings)}

"""What is hidden, and that it depends on nothing but seed, step and sample."""

from __future__ import annotations

import torch

from msvl.data.batch import Tokens
from msvl.models.masking import UNUSED_LABEL, MaskedTokens, mask_tokens, patch_noise, split_patches, token_capacity
from tests.models.tiny import MASK, UNK, VOCABULARY, tiny_tokens

SAMPLE = torch.tensor([11, 2**61 + 5, 42, 7, 8])
REPORTS = [[5, 4, 6], [1], [7, 8], [3, 3, 3, 3], [12]]


def masked(tokens: Tokens, *, step: int = 3, sample: torch.Tensor = SAMPLE, ratio: float = 0.4) -> MaskedTokens:
    """Mask with the tests' usual settings."""
    return mask_tokens(
        tokens,
        seed=0,
        step=step,
        sample=sample,
        mask_ratio=ratio,
        mask_id=MASK,
        unknown_id=UNK,
        vocab_size=VOCABULARY,
    )


def test_every_patch_is_either_visible_or_masked() -> None:
    split = split_patches(patch_noise(0, 3, SAMPLE, 49), 0.5)
    both = torch.cat([split.visible, split.masked], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(49).expand(5, 49))
    assert split.masked.shape == (5, 25)


def test_patch_masks_follow_the_sample_not_its_place_in_the_batch() -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    straight = split_patches(patch_noise(0, 3, SAMPLE, 49), 0.5).visible
    assert torch.equal(split_patches(patch_noise(0, 3, SAMPLE[order], 49), 0.5).visible, straight[order])


def test_patch_masks_differ_by_step_seed_and_sample() -> None:
    base = split_patches(patch_noise(0, 3, SAMPLE, 49), 0.5).visible
    for other in (patch_noise(0, 4, SAMPLE, 49), patch_noise(1, 3, SAMPLE, 49)):
        assert not (split_patches(other, 0.5).visible == base).all(dim=1).any()
    assert not torch.equal(base[0], base[1])


def test_extreme_ratios_leave_one_patch_on_each_side() -> None:
    noise = patch_noise(0, 3, SAMPLE, 4)
    assert split_patches(noise, 0.001).masked.shape == (5, 1)
    assert split_patches(noise, 0.999).visible.shape == (5, 1)


def test_the_share_of_each_report_is_hidden_and_at_least_one_token() -> None:
    result = masked(tiny_tokens(REPORTS))
    hidden = (result.labels != UNUSED_LABEL).sum(dim=1)
    # 40 % of 15, 1, 15, 12 and 12 tokens.
    assert hidden.tolist() == [6, 1, 6, 5, 5]


def test_labels_are_the_true_tokens_and_nothing_else_changes() -> None:
    tokens = tiny_tokens(REPORTS)
    result = masked(tokens)
    used = result.labels != UNUSED_LABEL
    assert torch.equal(tokens.input_ids.gather(1, result.places)[used], result.labels[used])
    touched = torch.zeros_like(tokens.input_ids, dtype=torch.bool).scatter(1, result.places, used)
    assert torch.equal(result.input_ids[~touched], tokens.input_ids[~touched])


def test_special_tokens_padding_and_unknown_words_are_never_hidden() -> None:
    tokens = tiny_tokens(REPORTS)
    tokens.input_ids[0, 2:6] = UNK
    for step in range(60):
        result = masked(tokens, step=step, ratio=0.9)
        places = result.places[result.labels != UNUSED_LABEL]
        rows = torch.arange(5).unsqueeze(1).expand_as(result.places)[result.labels != UNUSED_LABEL]
        assert (tokens.sentence_index[rows, places] >= 0).all()
        assert (tokens.input_ids[rows, places] > MASK).all()


def test_a_report_of_unknown_words_hides_nothing() -> None:
    tokens = tiny_tokens([[2]])
    tokens.input_ids[0, 1:3] = UNK
    result = masked(tokens, sample=SAMPLE[:1])
    assert (result.labels == UNUSED_LABEL).all()
    assert torch.equal(result.input_ids, tokens.input_ids)


def test_eighty_ten_ten() -> None:
    tokens = tiny_tokens([[20]] * 400)
    result = masked(tokens, sample=torch.arange(400), ratio=0.9)
    used = result.labels != UNUSED_LABEL
    shown, true = result.input_ids.gather(1, result.places)[used], result.labels[used]
    share_masked = (shown == MASK).float().mean()
    share_kept = (shown == true).float().mean()
    # 7,200 places: standard errors 0.005 and 0.004; one random token in 50 is the true one or [MASK].
    assert abs(share_masked - 0.802) < 0.02
    assert abs(share_kept - 0.102) < 0.016


def test_token_masks_follow_the_sample_not_its_place_in_the_batch() -> None:
    tokens, order = tiny_tokens(REPORTS), torch.tensor([3, 0, 4, 2, 1])
    permuted = Tokens(*(getattr(tokens, name)[order] for name in Tokens.__dataclass_fields__))
    straight, moved = masked(tokens), masked(permuted, sample=SAMPLE[order])
    assert torch.equal(moved.input_ids, straight.input_ids[order])
    assert torch.equal(moved.labels, straight.labels[order])


def test_token_masks_do_not_depend_on_the_padding() -> None:
    tokens = tiny_tokens(REPORTS)
    trimmed = Tokens(
        input_ids=tokens.input_ids[:, :18],
        attention_mask=tokens.attention_mask[:, :18],
        sentence_index=tokens.sentence_index[:, :18],
        sentence_mask=tokens.sentence_mask,
    )
    assert torch.equal(masked(trimmed).input_ids, masked(tokens).input_ids[:, :18])


def test_token_masks_differ_by_step() -> None:
    tokens = tiny_tokens([[20]])
    first, second = (masked(tokens, step=step, sample=SAMPLE[:1]).input_ids for step in (3, 4))
    assert not torch.equal(first, second)


def test_the_capacity_holds_the_longest_report() -> None:
    for length in range(3, 130):
        for ratio in (0.05, 0.15, 0.5, 0.9):
            assert token_capacity(length, ratio) >= max(1, int(ratio * (length - 2) + 0.5))
    full = tiny_tokens([[22]])
    assert (masked(full, sample=SAMPLE[:1], ratio=0.5).labels != UNUSED_LABEL).sum() == 11

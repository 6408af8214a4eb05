"""Parity with the authors' own code: inputs, values and gradients that it gave once, read from beside the project.

`gloria_*`: marshuang80/gloria, gloria/loss/gloria_loss.py, `local_loss` at temperatures 4, 5, 10. `clip_*`:
mlfoundations/open_clip, src/open_clip/loss.py, `ClipLoss`. `albef_*`: the rule of salesforce/ALBEF,
models/model_pretrain.py: weights of each report as negative of an image, and of each image as negative of a report.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor

from msvl.models.noise import hash_uniform
from msvl.objectives.chunked import sigmoid_rows, two_way_rows
from msvl.objectives.contrastive import symmetric_cross_entropy
from msvl.objectives.instance_scale import draw_negatives
from msvl.objectives.local_alignment import matching_scores
from tests.objectives.one_rank import close

FILE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "published_losses.npz"


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    if not FILE.is_file():
        pytest.skip(f"{FILE} is absent: values of published losses lie beside the project, not in it")
    with np.load(FILE) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


@pytest.mark.evidence("The local scale is GLoRIA's published loss, gradients included", how="cpu")
def test_local_scale_is_glorias_local_loss(published: dict[str, Tensor]) -> None:
    image = published["gloria_image"].clone().requires_grad_()
    text = published["gloria_text"].clone().requires_grad_()
    places = torch.arange(text.shape[2])
    mask = places < published["gloria_lengths"].unsqueeze(1)
    temp1, temp2, temp3 = published["gloria_temperatures"].tolist()
    score = matching_scores(
        rearrange(image, "b c h w -> b (h w) c"), rearrange(text, "b c s -> b s c"), mask,
        temp1=temp1, temp2=temp2, normalise_over="units_then_patches",
    )  # fmt: skip
    loss = symmetric_cross_entropy(temp3 * score, torch.arange(len(image)), None)
    loss.backward()
    assert close(loss, published["gloria_loss_over_reports"] + published["gloria_loss_over_images"])
    assert close(image.grad, published["gloria_grad_image"])
    assert close(text.grad, published["gloria_grad_text"])


@pytest.mark.evidence("The global scale is open_clip's published loss, gradients included", how="cpu")
def test_global_scale_is_twice_open_clips_mean_of_both_directions(published: dict[str, Tensor]) -> None:
    image = published["clip_image"].clone().requires_grad_()
    text = published["clip_text"].clone().requires_grad_()
    scale = published["clip_logit_scale"].clone().requires_grad_()
    found = two_way_rows(image, text, scale.reshape(1), torch.arange(len(image)), None)
    loss = (found.rows + found.columns - 2 * found.positive).mean() / 2
    loss.backward()
    assert close(loss, published["clip_loss"])
    assert close(image.grad, published["clip_grad_image"])
    assert close(text.grad, published["clip_grad_text"])
    assert close(scale.grad, published["clip_grad_scale"])


@pytest.mark.evidence(
    "The sigmoid option of the global scale is SigLIP's published loss, gradients included", how="cpu"
)
def test_sigmoid_loss_is_siglips(published: dict[str, Tensor]) -> None:
    image, text = (published[f"clip_{name}"].clone().requires_grad_() for name in ("image", "text"))
    scale, bias = (published[f"siglip_{name}"].clone().requires_grad_() for name in ("scale", "bias"))
    own = torch.arange(len(image))
    loss = sigmoid_rows(image, text, scale.reshape(1), bias.reshape(1), own, None).losses.mean()
    loss.backward()
    assert close(loss, published["siglip_loss"])
    for leaf, name in ((image, "image"), (text, "text"), (scale, "scale"), (bias, "bias")):
        assert close(leaf.grad, published[f"siglip_grad_{name}"]), name


@pytest.mark.evidence("Hard negatives are drawn with ALBEF's published probabilities", how="cpu")
@pytest.mark.parametrize(
    ("key", "transpose"), [("albef_report_weights_per_image", False), ("albef_image_weights_per_report", True)]
)
def test_negatives_are_drawn_with_albefs_weights(published: dict[str, Tensor], key: str, transpose: bool) -> None:
    weights = published[key]
    expected = weights / weights.sum(dim=1, keepdim=True)
    similarity = published["albef_similarity_over_tau"]
    similarity = similarity.T if transpose else similarity
    count, repeats = len(similarity), 4000
    place = torch.arange(count)
    noise = hash_uniform(7, torch.arange(repeats).reshape(-1, 1, 1), place.reshape(1, -1, 1), place.reshape(1, 1, -1))
    candidates = ~torch.eye(count, dtype=torch.bool)
    drawn = [draw_negatives(similarity, candidates, one, temperature=1.0)[0] for one in noise]
    shares = torch.nn.functional.one_hot(torch.stack(drawn), count).double().mean(dim=0)
    # Five standard deviations of a share of that many draws.
    assert ((shares - expected).abs() <= 5 * (expected * (1 - expected) / repeats).sqrt() + 1e-9).all()

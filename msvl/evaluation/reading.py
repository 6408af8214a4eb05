"""A model and a picture: findings by the user's own prompts, and where a phrase is. From Python in three lines each:

    from msvl.evaluation.reading import Reader
    reader = Reader.open("runs/quickstart")
    reader.ground("scan.png", "left pleural effusion").save("overlay.png")
    reader.predict(["scan.png"], ["pleural effusion", "nodule"])

H, W height and width of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from msvl.config.errors import DataError
from msvl.data.image_files import read_radiograph
from msvl.data.images import centre_square, square_image, to_eight_bit
from msvl.data.tokenise import ReportTokeniser
from msvl.evaluation.encoders import PhrasePairs, encode_images, encode_prompts
from msvl.evaluation.locate import locate_model
from msvl.evaluation.maps import place_in_image
from msvl.evaluation.prompts import PromptSet
from msvl.evaluation.published_prompts import published_prompts
from msvl.evaluation.render import LARGEST_SIDE, overlay
from msvl.evaluation.tasks.zero_shot import ensembles, flat_prompts
from msvl.models.exported import export_settings, load_exported
from msvl.models.msvl_model import MSVLModel

SMALLEST_SIDE = 16
DEFAULT_PROMPTS = "maco"


@dataclass(frozen=True)
class Finding:
    """What the model makes of a finding in a picture."""

    name: str
    score: float
    """Cosine with the positive prompts minus cosine with the negative ones: above 0 it leans to present. No probability."""


@dataclass(frozen=True)
class Grounding:
    """Where a phrase is."""

    phrase: str
    image: NDArray[np.uint8]
    """[H, W] grey."""
    map: NDArray[np.float32]
    """[H, W] cosines; NaN outside the centred square, which is all that the model sees."""

    @property
    def peak(self) -> tuple[int, int]:
        """Return (x, y) of the largest cosine, in pixels of the picture."""
        y, x = np.unravel_index(int(np.nanargmax(self.map)), self.map.shape)
        return int(x), int(y)

    def overlay(self) -> bytes:
        """Return the picture under the map as PNG."""
        return overlay(self.image, self.map, (), side=min(LARGEST_SIDE, max(self.image.shape)))

    def save(self, path: str | Path) -> None:
        """Write the overlay. Raises DataError when the file cannot be written."""
        try:
            Path(path).write_bytes(self.overlay())
        except OSError as error:
            raise DataError(f"{path} could not be written ({error.strerror}): name another place with --out") from error


class Reader:
    """A model with its tokenizer."""

    def __init__(self, model: MSVLModel, tokeniser: ReportTokeniser) -> None:
        """Use a model in evaluation mode."""
        self.model, self._tokeniser = model, tokeniser
        self._size: int = model.config.image_size

    @classmethod
    def open(cls, place: str | Path) -> Reader:
        """Load a run's best checkpoint, a checkpoint or an exported model. Raises CheckpointError."""
        folder = locate_model(Path(place)).model
        settings = export_settings(folder)
        model = load_exported(folder)
        nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu")
        return cls(model, ReportTokeniser(str(settings.tokenizer), settings.report))

    def predict(self, images: Sequence[str | Path], findings: PromptSet | Sequence[str]) -> list[list[Finding]]:
        """Return the findings of each picture, in the order of the prompts.

        Args:
            images: PNG, JPEG or DICOM.
            findings: Own prompts, or names, which MaCo's published prompts are filled with.

        Raises:
            DataError: A picture is missing or cannot be read, or nothing is asked for.
        """
        prompts = findings if isinstance(findings, PromptSet) else published_prompts(DEFAULT_PROMPTS, findings)
        if not images or not prompts.findings:
            raise DataError("name at least one picture and one finding")
        squares = torch.from_numpy(np.stack([square_image(read_picture(path), self._size) for path in images])[:, None])
        encoded = encode_images(self.model, squares, batch_size=32)
        sides = ensembles(
            prompts, encode_prompts(self.model, self._tokeniser, flat_prompts(prompts), batch_size=64).text
        )
        cosines = (encoded.image @ sides.T).numpy()
        scores = cosines[:, 0::2] - cosines[:, 1::2]
        return [
            [Finding(name, float(value)) for name, value in zip(prompts.findings, row, strict=True)] for row in scores
        ]

    def ground(self, image: str | Path, phrase: str, *, sigma: float = 0.0) -> Grounding:
        """Return where a phrase is in a picture.

        Args:
            image: PNG, JPEG or DICOM.
            phrase: Words.
            sigma: Gaussian on the patch grid, in patches.

        Raises:
            DataError: The picture cannot be read, or the phrase is empty.
        """
        if not phrase.strip():
            raise DataError("the phrase is empty: say what to look for, such as 'left pleural effusion'")
        picture = read_picture(image)
        vector = encode_prompts(self.model, self._tokeniser, [phrase], batch_size=1).sentence
        pairs = PhrasePairs(rows=torch.zeros(1, dtype=torch.int64), phrases=vector)
        square = torch.from_numpy(square_image(picture, self._size)[None, None])
        maps = encode_images(self.model, square, batch_size=1, pairs=pairs).pair_maps
        placed = place_in_image(maps, centre_square(*picture.shape), picture.shape[:2], sigma=sigma)
        return Grounding(phrase, picture, placed[0].numpy())


def read_picture(path: str | Path) -> NDArray[np.uint8]:
    """Return a radiograph's file as grey uint8 [H, W]. Raises DataError."""
    picture = to_eight_bit(read_radiograph(Path(path), str(path))[0])
    if min(picture.shape) < SMALLEST_SIDE:
        raise DataError(f"{path} has {picture.shape[1]} x {picture.shape[0]} px; at least {SMALLEST_SIDE} are needed")
    return picture

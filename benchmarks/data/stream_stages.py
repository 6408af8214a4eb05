"""Where a sample's time goes: the stream's own functions, timed while it runs."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

from msvl.data import images, reader, texts
from msvl.data.batch_reader import BatchReader
from msvl.data.planned_steps import PlannedSteps
from msvl.data.shard_files import ShardFiles
from msvl.data.texts import OnlineTexts, StoredTexts
from msvl.data.tokenise import ReportTokeniser

STAGES: tuple[tuple[str, Any, str], ...] = (
    ("plan", PlannedSteps, "__call__"),
    ("read", ShardFiles, "read"),
    ("check (CRC-32)", reader, "crc32"),
    ("decode", images, "decode_image"),
    ("crop, turn, resize", images.cv2, "warpAffine"),
    ("brightness, contrast", images.cv2, "addWeighted"),
    ("random numbers", BatchReader, "_numbers"),
    ("parse the text, choose sentences (reading it included)", OnlineTexts, "find"),
    ("tokenise", ReportTokeniser, "flatten"),
    ("hashes of sentences", texts, "normalised_text"),
    ("stored ids", StoredTexts, "drawn"),
    ("matrices", ReportTokeniser, "lay_out"),
    ("identities", BatchReader, "_names_of_records"),
    ("all", BatchReader, "__call__"),
)


def stages(stream: Iterator[Any], *, batches: int, batch: int, warm_up: int = 16) -> list[dict[str, object]]:
    """Return microseconds a sample in each stage of a running stream; a stage that contains another has its time too."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                seconds[name] += time.process_time() - began

        return call

    with ExitStack() as stack:
        for name, owner, attribute in STAGES:
            stack.enter_context(mock.patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        for _ in itertools.islice(stream, warm_up):
            pass
        seconds.clear()
        for _ in itertools.islice(stream, batches):
            pass
    return [
        {"stage": name, "us_a_sample": round(seconds[name] / (batches * batch) * 1e6, 1)}
        for name, _, _ in STAGES
        if seconds[name]
    ]

"""The stream over a set on a web server, one cache per node: what is fetched, and how often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from msvl.data.cache import CacheConfig
from msvl.data.pack_options import PackOptions
from msvl.data.packed import PackedSet
from msvl.data.planned_steps import Share
from msvl.data.stream import training_batches
from msvl.data.tokenise import ReportTokeniser
from msvl.data.training_data import TrainingData
from tests.helpers.lane_reader import GLOBAL_BATCH, SEED, data_config
from tests.helpers.object_server import serve_objects
from tests.helpers.packed_sets import pack_studies, serve_set

LANES = 2


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = PackOptions(short_side=32, shard_samples=8, tokenizer_vocabulary=120, val_share=0, test_share=0)
    return pack_studies(tmp_path_factory.mktemp("packed") / "shards", options)


@pytest.mark.evidence(
    "Over a cluster of nodes with caches each shard is fetched once per epoch where the ranks divide the lanes, else at most twice",
    how="cpu",
)
@pytest.mark.parametrize(("world", "times"), [(1, 1), (2, 1), (4, 2)])
def test_shards_are_fetched_once_or_twice(shards: Path, tmp_path: Path, world: int, times: int) -> None:
    count = len(PackedSet.open(shards).split("train").shards)
    assert count >= 8 * LANES
    keys: list[str] = []
    with serve_objects() as server:
        url = serve_set(shards, server)
        for rank in range(world):  # each on a node of its own
            cache = CacheConfig(folder=str(tmp_path / f"node-{rank}"))
            config = data_config(url, lanes=LANES, shuffle_window=12, images="all", cache=cache)
            data = TrainingData.open(config, SEED)
            tokeniser = ReportTokeniser(str(data.sets[0].tokenizer_path), config.report)
            stream = training_batches(data.plan, config, tokeniser, Share(GLOBAL_BATCH, rank, world), start_step=0)
            for _ in range(data.plan.epoch_places // GLOBAL_BATCH):
                keys += next(stream).keys
        fetched = Counter(path for _, path, span in server.requests if path.endswith(".tar") and span)
    assert len(set(keys)) == len(keys) == 160
    # A block is larger than these shards. The shard that the cut between two lanes goes through belongs to both.
    assert len(fetched) == count
    assert sum(fetched.values()) <= times * (count + (LANES - 1) * (world > 1))

"""The pairs as a stream: the matched rows alone, one shard after the other, without a store on disk."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import datasets
import pyarrow as pa
from datasets.builder import Key

from mmagn.matching.config import MatchingConfig
from mmagn.matching.index import pair_index
from mmagn.matching.rows import pair_features, pair_from_row, pair_row, rows_batch
from mmagn.matching.shards import PairShard, pair_shards, shard_pairs
from mmagn.matching.store import source_store
from mmagn.records import Pair
from mmagn.surveys.config import DataConfig
from mmagn.surveys.reader import SurveyReader, in_advance
from mmagn.surveys.readers import survey_reader

_log = logging.getLogger(__name__)


@dataclass
class _PairStreamConfig(datasets.BuilderConfig):  # type: ignore[misc]  # datasets carries no types
    shards: Sequence[PairShard] = field(default_factory=list)
    reader: SurveyReader | None = None
    image_dtype: str = "float32"


class _PairStream(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Stream of pairs as Arrow tables of one row; ``from_generator`` would turn every image into a list, twice."""

    BUILDER_CONFIG_CLASS = _PairStreamConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=pair_features(self.config.image_dtype))

    def _split_generators(self, dl_manager: object) -> list[datasets.SplitGenerator]:  # noqa: ARG002
        # Every list in gen_kwargs is cut into shards by datasets; what must stay whole is not a list.
        return [datasets.SplitGenerator(name="train", gen_kwargs={"shards": list(self.config.shards)})]

    def _generate_tables(self, shards: Sequence[PairShard]) -> Iterator[tuple[Key, pa.Table]]:
        features = pair_features(self.config.image_dtype)
        for shard_number, shard in enumerate(shards):
            drops: Counter[str] = Counter()
            lost: list[str] = []
            for number, pair in enumerate(shard_pairs(shard, self.config.reader, drops, lost)):
                batch = rows_batch([pair_row(pair, self.config.image_dtype)], features)
                yield Key(shard_number, number), pa.Table.from_batches([batch])
            for sentence in lost:
                _log.warning("pair left out: %s", sentence)


def open_pairs(data: DataConfig, matching: MatchingConfig) -> datasets.IterableDataset:
    """Return the pairs as a Hugging Face stream, cut into the shards of ``pair_shards``, rows as in ``pair_features``.

    Rows come out as NumPy arrays (format ``numpy``, which widens float16 images to float32); ``with_format`` changes
    that. Images are flat, ``pair_from_row`` gives them their shape back. The stream is cut over nodes and DataLoader
    workers by shard and resumes exactly from its ``state_dict`` as long as it is not shuffled with a buffer. The
    largest shards come first: ranks and workers, of which each takes every n-th, differ by no more pairs than one shard
    has (1,024 at most).

    Raises ``NoPairsError`` where nothing matches, ``ValueError`` where ``data.root`` holds a store made with other
    matching settings (named).
    """
    if data.source == "store":
        dataset = source_store(data, matching).dataset()
        return dataset.to_iterable_dataset(num_shards=_shard_count(len(dataset))).with_format("numpy")
    shards = sorted(pair_shards(pair_index(data, matching)), key=len, reverse=True)
    stream = _PairStream(shards=shards, reader=survey_reader(data), image_dtype=matching.image_dtype)
    return stream.as_streaming_dataset(split="train").with_format("numpy")


def iter_pairs(data: DataConfig, matching: MatchingConfig) -> Iterator[Pair]:
    """Yield the pairs of the surveys in the order of ``pair_shards``; remote shards are fetched one ahead.

    Raises ``NoPairsError`` where nothing matches, before the first pair is taken.
    """
    shards, reader = pair_shards(pair_index(data, matching)), survey_reader(data)
    return _iter_pairs(shards, reader, matching.image_dtype)


def _iter_pairs(shards: Sequence[PairShard], reader: SurveyReader, image_dtype: str) -> Iterator[Pair]:
    lost: list[str] = []
    for stream in in_advance(shard_pairs(shard, reader, Counter(), lost) for shard in shards):
        for pair in stream:
            yield pair if image_dtype == "float32" else pair_from_row(pair_row(pair, image_dtype))
        for sentence in lost:
            _log.warning("pair left out: %s", sentence)
        lost.clear()


def _shard_count(pairs: int) -> int:
    return max(1, min(64, pairs // 32))

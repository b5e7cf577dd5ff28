"""Galaxies are decoded ahead by threads or processes, a bounded number at a time."""

import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmagn.matching.objects import Galaxy, GivenPart, object_parts
from mmagn.prediction import decode
from mmagn.prediction.decode import MOST_THREADS, Decoder, decoded_parts
from mmagn.runs.members import load_members


def test_without_shared_memory_parts_come_as_bytes(
    world: dict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (member,), config = load_members([world["run"]]), world["config"]
    decoder = Decoder(config=member.config, bases=[member.basis])
    parts = object_parts(config.data, config.matching, "pairs", Counter())
    assert decode._fits_shared_memory(1, config, 1)
    monkeypatch.setattr(decode, "SHARED_MEMORY", tmp_path / "none")
    assert not decode._fits_shared_memory(1, config, 1)
    for shared in (False, True):
        result = decode._worker(decoder, shared)(decode._Task(part=parts[0], number=1, count=1))
        decoded = result if shared else pickle.loads(result)
        assert torch.equal(decoded.image, decoder.decoded(parts[0]).image)


def test_many_galaxies_get_worker_processes_and_few_get_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "available_cores", lambda: 16)
    assert decode.default_workers(100, "cpu") == 0
    assert decode.default_workers(1_000_000, "cpu") == 8
    assert decode.default_workers(1_000_000, "cuda") == 15


class CountedPart(GivenPart):
    started = 0

    def galaxies(self, drops: Counter[str]) -> Iterator[Galaxy]:  # noqa: ARG002
        CountedPart.started += 1
        return iter(())


def test_the_number_of_parts_decoded_ahead_is_bounded(world: dict) -> None:
    (member,) = load_members([world["run"]])
    stream = decoded_parts([CountedPart(members=())] * 200, Decoder(config=member.config, bases=[member.basis]))
    for taken in range(1, 6):
        next(stream)
        assert CountedPart.started <= taken + 1 + MOST_THREADS
    stream.close()
    assert CountedPart.started < 100


def through_a_pipe(thing: object) -> Any:
    return pickle.loads(pickle.dumps(thing))


def test_parts_and_decoder_reach_another_process_whole(world: dict) -> None:
    (member,), config = load_members([world["run"]]), world["config"]
    decoder = Decoder(config=member.config, bases=[member.basis])
    for part in object_parts(config.data, config.matching, "all", Counter(), size=4)[::9]:
        here, there = decoder.decoded(part), through_a_pipe(through_a_pipe(decoder).decoded(through_a_pipe(part)))
        np.testing.assert_array_equal(here.image, there.image)
        np.testing.assert_array_equal(here.features[0][0], there.features[0][0])

"""No damaged input is more than a sentence: commands end with 0 or 2, leave nothing half-written, alter nothing unseen.

``scripts/benchmark.py faults`` tries thousands of inputs, and kills processes.
"""

import tempfile
from pathlib import Path
from random import Random

import pytest
from fault_inputs import KINDS, attempt
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sound_inputs import World

EXAMPLES = {
    "HDF5 tree": 12,
    "HATS catalogue": 3,
    "match index": 12,
    "store": 15,
    "run folder": 15,
    "run folder without checksums": 12,
    "config file": 60,
    "command line": 60,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("sound"))


def test_every_kind_of_input_is_tried() -> None:
    assert EXAMPLES.keys() == KINDS.keys()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", EXAMPLES)
def test_no_damage_of_an_input_is_more_than_a_sentence(world: World, kind: str) -> None:
    if kind == "HATS catalogue":
        pytest.importorskip("lsdb")

    @settings(
        max_examples=EXAMPLES[kind],
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),  # a smaller damage tells no more
        suppress_health_check=list(HealthCheck),
    )
    @given(rng=st.randoms(use_true_random=False))
    def holds(rng: Random) -> None:
        with tempfile.TemporaryDirectory(dir=world.base.parent) as folder:
            outcome = attempt(world, kind, rng, Path(folder) / "input")
        assert outcome.allowed, outcome

    holds()

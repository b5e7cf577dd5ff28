"""The embeddings of a trained network as a file of vectors, for other models."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmagn.config.run_config import RunConfig
from mmagn.matching.objects import PART_OBJECTS, Galaxy, GivenPart
from mmagn.matching.store import pair_store
from mmagn.prediction.decode import Decoder
from mmagn.prediction.networks import Ensemble
from mmagn.runs.members import load_members
from mmagn.storage.vectors import write_vectors
from mmagn.training.device import device_name


def write_embeddings(config: RunConfig, run: Path, out: Path) -> int:
    """Write SDSS id and head input of each pair of a config to a Parquet file, and return their number.

    ``data.embeddings`` of an ablation takes the file.

    Raises
    ------
    ValueError
        Where the run holds more than one network.
    """
    members = load_members([run])
    if len(members) > 1:
        raise ValueError(f"{run} holds {len(members)} networks; allowed: a run of train")
    ensemble = Ensemble(members=members, device=device_name(members[0].config.training))
    decoder = Decoder(config=members[0].config, bases=ensemble.bases)
    store = pair_store(config.data, config.matching)
    ids: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    for start in range(0, len(store), PART_OBJECTS):
        pairs = [store.pair(number) for number in range(start, min(start + PART_OBJECTS, len(store)))]
        given = tuple(
            Galaxy(cutout=each.cutout, spectrum=each.spectrum, separation_arcsec=each.separation_arcsec)
            for each in pairs
        )
        decoded = decoder.decoded(GivenPart(given=given))
        ids += decoded.columns["sdss_object_id"].tolist()
        vectors.append(ensemble.outputs(decoded)[0].arrays()[1])
    write_vectors(out, ids, np.concatenate(vectors))
    return len(ids)

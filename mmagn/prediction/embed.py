"""The embeddings of a trained network as a file of vectors, for other models."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmagn.config.run_config import RunConfig
from mmagn.matching.objects import object_parts
from mmagn.prediction.decode import Decoder, decoded_parts
from mmagn.prediction.networks import Ensemble
from mmagn.runs.members import load_members
from mmagn.runs.sample import engine
from mmagn.storage.vectors import check_vector_file, write_vectors
from mmagn.training.device import device_name


def write_embeddings(config: RunConfig, run: Path, out: Path) -> int:
    """Write SDSS id and head input of each pair of a config to a Parquet file, and return their number.

    ``data.embeddings`` of an ablation takes the file. Counts of pairs and losses go to standard output.

    Raises
    ------
    ValueError
        Where the run holds more than one network, settings do not fit it, ``out`` is no name of a Parquet file, or no
        pair can be read.
    """
    check_vector_file(out)
    members = load_members([run], config=config)
    if len(members) > 1:
        raise ValueError(f"{run} holds {len(members)} networks; allowed: a run of train")
    ensemble = Ensemble(members=members, device=device_name(config.training), embeddings=config.data.embeddings)
    decoder = Decoder(config=replace(members[0].config, spectroscopy=config.spectroscopy), bases=ensemble.bases)
    drops: Counter[str] = Counter()
    with engine(config):
        parts = object_parts(config.data, config.matching, "pairs", drops)
    ids: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    for decoded in decoded_parts(parts, decoder):
        drops.update(decoded.drops)
        if len(decoded):
            ids += decoded.columns["sdss_object_id"].tolist()
            vectors.append(ensemble.outputs(decoded)[0].arrays()[1])
    losses = [f"dropped: {count} x {reason}" for reason, count in drops.items()]
    if not ids:
        raise ValueError(f"not one of {sum(map(len, parts))} pairs could be read: {'; '.join(losses)}")
    write_vectors(out, ids, np.concatenate(vectors))
    sys.stdout.write("\n".join([f"{out}: {len(ids)} vectors", *losses]) + "\n")
    return len(ids)

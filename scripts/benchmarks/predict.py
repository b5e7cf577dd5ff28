"""Streaming prediction from a store relative to the forward pass on input in memory."""

import logging
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from statistics import median

import torch

from mmagn.config.run_config import RunConfig, save_config
from mmagn.evaluation.calibration import Calibration
from mmagn.evaluation.network import network_output
from mmagn.evaluation.subsets import SubsetCalibration, save_calibrations
from mmagn.features.names import FEATURE_NAMES
from mmagn.matching.objects import PART_OBJECTS, StoredPart
from mmagn.matching.store import PairStore, pair_store
from mmagn.models.config import Branch
from mmagn.prediction.decode import Decoder
from mmagn.prediction.networks import Ensemble
from mmagn.prediction.predict import PredictionOptions, predict
from mmagn.runs.members import load_members
from mmagn.runs.sample import network
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.spectroscopy.continuum import learned_basis
from mmagn.storage.run_folder import RunFolder
from mmagn.surveys.config import DataConfig, SimulateConfig
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.missing import SUBSETS
from mmagn.tensors.scaling import FeatureScaling
from mmagn.training.device import device_name
from mmagn.training.weights import save_weights
from mmagn.workers import available_cores, keep_freed_memory

GOAL = 0.9
BRANCHES: tuple[tuple[Branch, ...], ...] = (("image", "spectrum"), ("image", "spectrum", "features"))
"""Without and with the ten features, for which every spectrum is fitted."""


def predict_benchmark(pairs: int, repeats: int, workers: int, backbone: str, image_size: int, seed: int) -> None:
    """Print galaxies per second of the forward pass and of the whole of predict.py, by turns."""
    logging.getLogger("mmagn").setLevel(logging.WARNING)
    keep_freed_memory()  # for the forward pass too
    config = RunConfig(seed=seed, tensors=TensorsConfig(image_size=image_size))
    device = device_name(config.training)
    print(f"{pairs} pairs in a store, {device}, {torch.get_num_threads()} network threads, {available_cores()} cores")
    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(cache_dir=folder, simulate=SimulateConfig(pairs=pairs, seed=seed))
        store = pair_store(data, config.matching)
        image = replace(config.models.image, backbone=backbone)
        data = DataConfig(source="store", root=str(store.path))
        basis = learned_basis((store.spectrum(row) for row in range(len(store))), config.spectroscopy)
        for branches in BRANCHES:
            models = replace(config.models, branches=branches, image=image)
            trained, run = replace(config, data=data, models=models), Path(folder, "-".join(branches))
            write_run(trained, basis, run)
            _compare(trained, store, run, repeats, workers, device)


def write_run(config: RunConfig, basis: ContinuumBasis | None, run: Path) -> None:
    """Write a run whose network has its initial weights: speed does not depend on them."""
    run.mkdir()
    save_config(config, run / "config.yaml")
    ones = (1.0,) * len(FEATURE_NAMES)
    FeatureScaling(softening=ones, median=ones, mean=ones, gain=ones).save(RunFolder(run).scaling)
    usual = SubsetCalibration(calibration=Calibration(), threshold=0.5)
    save_calibrations(RunFolder(run).calibration, dict.fromkeys(SUBSETS, usual))
    save_weights(network(config).state_dict(), RunFolder(run).weights)
    if basis is not None:
        basis.save(RunFolder(run).basis)


def _compare(config: RunConfig, store: PairStore, run: Path, repeats: int, workers: int, device: str) -> None:
    """Print the two figures of one network and their ratio."""
    (member,) = load_members([run])
    ensemble = Ensemble(members=[member], device=device)
    decoder = Decoder(config=config, bases=ensemble.bases)
    parts = [
        StoredPart(store=store, start=start, stop=min(start + PART_OBJECTS, len(store)))
        for start in range(0, len(store), PART_OBJECTS)
    ]
    started = time.process_time()
    ready = [batch for part in parts for batch in ensemble.batches(decoder.decoded(part), member)]
    decoding = len(store) / (time.process_time() - started)
    forward, whole = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        network_output(member.model, ready, device).arrays()
        forward.append(len(store) / (time.perf_counter() - started))
        with redirect_stdout(StringIO()):
            summary = predict(config, [run], run / "scores.parquet", PredictionOptions(workers=workers, progress=False))
        whole.append(summary.rate_per_s)
    share = median(rate / alone for rate, alone in zip(whole, forward, strict=True))
    name = "+".join(config.models.branches)
    print(f"{name:<26}decoding {decoding:.0f}/s of one core")
    print(f"{name:<26}forward {median(forward):7.0f}/s   predict.py {median(whole):7.0f}/s   {share:.2f} (goal {GOAL})")

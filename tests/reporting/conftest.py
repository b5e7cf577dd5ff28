"""A scored run as a folder: forty galaxies with names that want to be markup, and the pictures of all of them."""

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from pair_records import cutout_of, spectrum_of

from mmagn.config.run_config import RunConfig, save_config
from mmagn.evaluation.ceiling import noise_ceilings
from mmagn.evaluation.config import EvaluationConfig
from mmagn.evaluation.parts import input_scores, part_columns
from mmagn.evaluation.permutation import Importance, save_importances
from mmagn.evaluation.scores import scores
from mmagn.labels.scheme import BPT_LINES
from mmagn.lines import LINE_BY_NAME
from mmagn.records import Pair
from mmagn.storage.files import write_json
from mmagn.storage.run_folder import RunFolder
from mmagn.training.config import TrainingConfig

GALAXIES = 40
HOSTILE = '<img src="https://example.org/x" onerror=alert(1)>'
"""Name of the first galaxy, and part of the name of the run."""
CONFIG = RunConfig(
    name="page", training=TrainingConfig(epochs=7, device="cpu"), evaluation=EvaluationConfig(bootstrap_draws=60)
)


def pair(name: str, redshift: float) -> Pair:
    y, x = np.mgrid[:40, :40] - 20.0
    flux = 50 * np.exp(-0.5 * (x**2 + y**2) / 25) + np.random.default_rng(0).normal(size=(5, 40, 40))
    wavelength = 10 ** np.arange(np.log10(3800), np.log10(9200), 1e-4)
    line = LINE_BY_NAME["halpha"].wavelength_angstrom * (1 + redshift)
    image = cutout_of(flux, size=40, object_id="8", ra_deg=150.0, dec_deg=2.0)
    spectrum = spectrum_of(
        10 + 30 * np.exp(-0.5 * ((wavelength - line) / 3) ** 2),
        1.0,
        wavelength_angstrom=wavelength.astype("f4"),
        object_id=name,
        ra_deg=150.0,
        dec_deg=2.0,
        redshift=redshift,
    )
    return Pair(cutout=image, spectrum=spectrum, separation_arcsec=0.1, healpix=1)


def measurements() -> Table:
    rng = np.random.default_rng(3)
    names = [HOSTILE, *(str(4_000_000_000 + number) for number in range(1, GALAXIES))]
    classes = np.array(["star-forming", "composite", "seyfert", "liner"])[np.arange(GALAXIES) % 4]
    ratio = {"star-forming": (0.3, 0.5), "composite": (0.6, 1.0), "seyfert": (1.0, 5.0), "liner": (1.2, 1.0)}
    nii, oiii = np.array([ratio[name] for name in classes.tolist()]).T
    table = Table({"object_id": names, "bpt_class": classes, "redshift": rng.uniform(0.02, 0.3, GALAXIES)})
    table["ra_deg"], table["dec_deg"] = rng.uniform(149, 151, GALAXIES), rng.uniform(1, 3, GALAXIES)
    fluxes = {"hbeta": np.ones(GALAXIES), "oiii_5007": oiii, "halpha": np.full(GALAXIES, 3.0), "nii_6584": 3 * nii}
    for line in BPT_LINES:
        table[f"flux_{line}"], table[f"snr_{line}"] = fluxes[line], rng.uniform(3, 40, GALAXIES)
        table[f"flux_{line}_err"] = 0.1 * fluxes[line]
    table["whan_class"], table["ew_halpha"], table["ew_halpha_err"] = "strong-agn", 20.0, 1.0
    positive = np.isin(classes, ["composite", "seyfert"])
    table["p_agn"] = np.clip(positive * 0.9 + 0.05 + 0.05 * rng.normal(size=GALAXIES), 0, 1)
    return table


@pytest.fixture(scope="session")
def scored_run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Run folder and the store of its pairs."""
    measured, rng = measurements(), np.random.default_rng(4)
    truth = np.isin(measured["bpt_class"], ["composite", "seyfert"]).astype(float)
    probability = np.clip(truth * 0.5 + 0.5 * rng.random(GALAXIES), 0.01, 0.99)
    config = CONFIG
    on_test = scores(truth, probability, 0.6, config=config.evaluation)
    run = RunFolder.create(tmp_path_factory.mktemp("runs"), "a <b>bold</b> run".replace("/", ""))
    save_config(config, run.config)
    ceilings = noise_ceilings(measured["p_agn"], config=config.evaluation)
    counts = dict.fromkeys(("star-forming", "composite", "seyfert", "liner"), 10)
    recorded = {
        "split": "test",
        "simulated": True,
        **on_test.as_dict(),
        "clean": {"probability": 0.9, **on_test.as_dict()},
        "noise_ceiling": {name: score.as_dict() for name, score in ceilings.items()},
        "classes": counts | {"unclassified": 3},
        "unclassified": {f"snr of {HOSTILE} below 3": 3},
        "splits": {"train": 0, "validation": 0, "test": GALAXIES},
        "matching": {
            "radius_arcsec": 1.0,
            "left_objects": 60,
            "pairs": 43,
            "pairs_stored": 43,
            "drops": {"no flux": 2},
        },
    }
    inputs = [Importance(name="features", value=0.4, low=0.3, high=0.5, share=0.9)]
    inputs.append(Importance(name="image", value=0.01, low=-0.02, high=0.03, share=0.1))
    save_importances(run.importance, [], inputs)
    alone = {"features": probability, "image": np.where(np.arange(GALAXIES) == probability.argmax(), 1e-3, probability)}
    parts = part_columns(alone, 0.5)
    scored = input_scores(alone, truth, inputs)
    disagreeing = int(parts["modalities_disagree"].sum())
    write_json(run.scores, recorded | {"inputs": scored, "modalities_disagree": disagreeing})
    measured.write(run.measurements, format="parquet")
    columns = {**parts, "sdss_object_id": measured["object_id"], "bpt_class": measured["bpt_class"], "truth": truth}
    predictions = Table(
        {**columns, "calibrated_probability": probability, "probability": probability**2, "split": ["test"] * GALAXIES}
    )
    predictions.write(run.predictions, format="parquet")
    index = Table({"sdss_object_id": measured["object_id"]})
    redshift = np.asarray(measured["redshift"]).tolist()
    ra_deg, dec_deg = np.asarray(measured["ra_deg"]), np.asarray(measured["dec_deg"])
    store = SimpleNamespace(
        index=index,
        pair=lambda row: pair(str(index["sdss_object_id"][row]), redshift[row]),
        positions=lambda of: (np.append(ra_deg, 359.9), np.append(dec_deg, 0.0)) if of == "sdss" else (ra_deg, dec_deg),
    )
    return SimpleNamespace(path=run.path, store=store, measured=measured, probability=probability, truth=truth)

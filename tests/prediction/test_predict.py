"""Predictions are those of the evaluation, whatever the source, the file format and the number of members."""

import importlib.util
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.io import fits
from astropy.io.votable import parse, parse_single_table
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table
from untrained_runs import ALONE, PAIRS, thirds

from mmagn.config.run_config import load_config, save_config
from mmagn.matching.objects import Galaxy, GivenPart, galaxy_with_id, object_parts
from mmagn.prediction.decode import Decoder
from mmagn.prediction.networks import Ensemble
from mmagn.prediction.predict import PredictionOptions, predict
from mmagn.runs.members import load_members
from mmagn.storage.tables import table_file
from mmagn.surveys.config import DaskConfig, DataConfig
from mmagn.tensors.missing import shown_batch

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "predict.py"


QUIET = PredictionOptions(progress=False)


def ensemble_of(world: dict) -> Ensemble:
    return Ensemble(members=load_members([world["run"]]), device="cpu")


def predicted(world: dict, out: str = "scores.parquet", **settings) -> Table:
    config = settings.pop("config", world["config"])
    path = world["base"] / out
    if path.suffix == ".parquet" and path.is_file():  # predicted by another test already
        return Table.read(path)
    runs = settings.pop("runs", [world["run"]])
    summary = predict(config, runs, path, PredictionOptions(progress=False, **settings))
    table = Table.read(path, format={"votable": "votable", "csv": "ascii.csv"}.get(path.suffix[1:]))
    assert summary.rows == len(table)
    return table


def test_pairs_get_the_logits_and_probabilities_of_the_evaluation(world: dict) -> None:
    table, sample = predicted(world), world["sample"]
    assert len(table) == PAIRS
    row_of = {name: row for row, name in enumerate(table["sdss_object_id"])}
    rows = [row_of[name] for name in sample.table["object_id"][sample.rows]]
    np.testing.assert_allclose(table["logit"][rows], world["logits"], atol=1e-6)
    (member,) = load_members([world["run"]])
    used = member.calibrations["image+spectrum"]
    probability = used.calibration.probability(world["logits"])
    np.testing.assert_allclose(table["calibrated_probability"][rows], probability, atol=1e-6)
    np.testing.assert_array_equal(table["agn"][rows], probability >= used.threshold)
    for name in member.model.branches:
        alone = used.parts[name].probability(world["parts"][name])
        np.testing.assert_allclose(table[f"p_{name}"][rows], alone, atol=1e-6)
    assert np.isnan(table["probability_spread"]).all()


def test_a_store_of_the_same_pairs_gives_the_same_catalogue(world: dict) -> None:
    stored = replace(world["config"].data, source="store", root=str(world["sample"].store.path))
    ours, theirs = predicted(world), predicted(world, "stored.parquet", config=replace(world["config"], data=stored))
    for table in (ours, theirs):
        table.sort("sdss_object_id")
    for name in ("sdss_object_id", "hsc_object_id", "logit", "training_distance"):
        ours_, theirs_ = ours[name], theirs[name]
        if ours_.dtype.kind == "f":  # batches of another size differ in the last bits
            np.testing.assert_allclose(ours_, theirs_, atol=1e-6)
        else:
            np.testing.assert_array_equal(ours_, theirs_)


def test_a_galaxy_without_its_spectrum_is_the_network_without_its_spectrum_branch(world: dict) -> None:
    store, ensemble = world["sample"].store, ensemble_of(world)
    (member,) = ensemble.members
    decoder = Decoder(config=member.config, bases=ensemble.bases)
    whole = [Galaxy(cutout=store.cutout(row), spectrum=store.spectrum(row)) for row in range(4)]
    (both,) = ensemble.batches(decoder.decoded(GivenPart(members=tuple(whole))), member)
    for subset, lacks in (("image", {"spectrum": None}), ("spectrum", {"cutout": None})):
        half = tuple(Galaxy(**{"cutout": g.cutout, "spectrum": g.spectrum, **lacks}) for g in whole)
        decoded = decoder.decoded(GivenPart(members=half))
        table = ensemble.table(decoded)
        assert set(table["modalities"]) == {subset}
        masked = shown_batch(both, subset, member.origin)
        with torch.inference_mode():
            logits = member.model(masked).double().numpy()
        np.testing.assert_allclose(table["logit"], logits, atol=1e-6)
        expected = member.calibrations[subset].calibration.probability(logits)
        np.testing.assert_allclose(table["calibrated_probability"], expected, atol=1e-6)
        with torch.inference_mode():
            parts = {name: values.double().numpy() for name, values in member.model.logits(masked).parts.items()}
        for name, calibration in member.calibrations[subset].parts.items():
            np.testing.assert_allclose(table[f"p_{name}"], calibration.probability(parts[name]), atol=1e-6)
        assert np.isnan(table["p_spectrum" if subset == "image" else "p_image"]).all()


def test_galaxies_of_one_survey_alone_are_counted_by_modality(world: dict) -> None:
    table = predicted(world, "all.parquet", objects="all")
    assert Counter(np.asarray(table["modalities"]).tolist()) == {
        "image+spectrum": PAIRS,
        "image": ALONE,
        "spectrum": ALONE,
    }
    alone = table[np.asarray(table["modalities"]) == "image"]
    assert set(alone["sdss_object_id"]) == {""}
    assert np.isnan(alone["redshift"]).all()
    assert set(np.asarray(alone["flags_halpha"]).tolist()) == {"not measured"}
    assert np.isfinite(table["calibrated_probability"]).all()
    assert len(predicted(world, "images.votable", objects="images")) == ALONE


def test_members_are_averaged_and_their_spread_is_given(world: dict) -> None:
    ablation = world["base"] / "ablation"
    table = predicted(world, "ensemble.parquet", runs=[ablation])
    singles = []
    for fold in range(2):
        alone = world["base"] / f"alone-{fold}"
        shutil.copytree(ablation / "members" / "fused" / f"repeat-0-fold-{fold}", alone)
        save_config(world["config"], alone / "config.yaml")
        singles.append(predicted(world, f"single-{fold}.parquet", runs=[alone])["calibrated_probability"])
    np.testing.assert_allclose(table["calibrated_probability"], np.mean(singles, axis=0), atol=1e-12)
    np.testing.assert_allclose(table["probability_spread"], np.std(singles, axis=0, ddof=1), atol=1e-12)
    assert table.meta["MEMBERS"] == 2
    assert len(load_members([world["run"], ablation])) == 3
    with pytest.raises(FileNotFoundError, match="no members of the model image; it has fused"):
        load_members([ablation], "image")


def test_a_rarer_population_has_lower_probabilities_in_the_same_order_and_the_same_calls(world: dict) -> None:
    usual, rare = predicted(world), predicted(world, "rare.parquet", prevalence=0.01)
    assert (rare["calibrated_probability"] < usual["calibrated_probability"]).all()
    order = np.argsort(usual["logit"])
    assert (np.diff(rare["calibrated_probability"][order]) >= 0).all()
    np.testing.assert_array_equal(usual["agn"], rare["agn"])


def test_an_object_of_pure_noise_is_flagged_and_training_objects_are_not(world: dict) -> None:
    sample, ensemble = world["sample"], ensemble_of(world)
    decoder = Decoder(config=ensemble.members[0].config, bases=ensemble.bases)
    train, validation = thirds(sample)
    rng = np.random.default_rng(0)
    cutout, spectrum = sample.store.cutout(0), sample.store.spectrum(0)
    loud = replace(cutout, flux=rng.normal(0, 1e5, cutout.flux.shape).astype(np.float32))
    wild = replace(spectrum, flux=rng.normal(0, 1e4, spectrum.flux.shape).astype(np.float32))
    strange = GivenPart(members=(Galaxy(cutout=loud, spectrum=wild),))
    assert ensemble.table(decoder.decoded(strange))["unlike_training"][0]
    table = predicted(world)
    row_of = {name: row for row, name in enumerate(table["sdss_object_id"])}
    ids = np.asarray(sample.table["object_id"])[sample.rows]
    assert not table["unlike_training"][[row_of[name] for name in ids[train]]].any()
    distances = table["training_distance"][[row_of[name] for name in ids[validation]]]
    assert np.max(distances) == pytest.approx(1, abs=1e-4)  # so few objects: the quantile is the farthest


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "votable", "csv"])
def test_every_format_comes_back_the_same_with_its_units_and_descriptions(world: dict, suffix: str) -> None:
    reference, out = predicted(world, "all.parquet", objects="all"), world["base"] / f"all.{suffix}"
    with table_file(out) as append:
        append(reference[:20])
        append(reference[20:])
    table = Table.read(out, format={"votable": "votable", "csv": "ascii.csv"}.get(suffix))
    assert table.colnames == [*reference.colnames, *(["provenance"] if suffix == "csv" else [])]
    np.testing.assert_allclose(table["logit"], reference["logit"], rtol=1e-12)
    if suffix == "csv":
        return
    assert table["ra_deg"].unit == u.deg
    assert table["separation_arcsec"].unit == u.arcsec
    assert "calibrated" in table["calibrated_probability"].description
    assert table["agn"].tolist() == reference["agn"].tolist()


def test_topcat_finds_ucds_where_it_looks_for_them(world: dict) -> None:
    for suffix in ("votable", "fits"):
        with table_file(world["base"] / f"scores.{suffix}") as append:
            append(predicted(world))
    fields = parse_single_table(world["base"] / "scores.votable").fields
    ucds = {field.name: field.ucd for field in fields}
    assert ucds["ra_deg"] == "pos.eq.ra;meta.main"
    for ucd in ucds.values():
        assert check_ucd(ucd, check_controlled_vocabulary=True), ucd
    header = fits.getheader(world["base"] / "scores.fits", 1)
    place = next(n for n in range(1, header["TFIELDS"] + 1) if header[f"TTYPE{n}"] == "dec_deg")
    assert header[f"TUCD{place}"] == "pos.eq.dec;meta.main"
    assert header[f"TUNIT{place}"] == "deg"
    assert "Declination" in header[f"TCOMM{place}"]


def test_weights_of_another_network_are_refused_with_the_difference(world: dict, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(world["run"], run)
    config = load_config(run / "config.yaml")
    save_config(replace(config, models=replace(config.models, hidden_dim=16)), run / "config.yaml")
    with pytest.raises(ValueError, match=r"than the settings describe: heads\.head\.0\.weight has shape"):
        load_members([run])
    (run / "calibration.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no complete run: it lacks calibration\.json"):
        load_members([run])


def test_another_grid_is_refused_by_the_name_of_the_setting(world: dict, tmp_path: Path, capsys) -> None:
    spec = importlib.util.spec_from_file_location("script_predict", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = tmp_path / "scores.parquet"
    arguments = ["--run", str(world["run"]), "--out", str(out)]
    assert module.main([*arguments, "--tensors.spectrum_binning", "4"]) == 2
    complaint = capsys.readouterr().err
    assert "tensors.spectrum_binning is 2 in one and 4 in the other" in complaint
    assert len(complaint.strip().splitlines()) == 1
    assert not out.exists()
    assert module.main(arguments) == 0
    assert f"{PAIRS} galaxies, 1 member: image+spectrum {PAIRS}" in capsys.readouterr().out


def test_a_store_has_no_galaxies_without_a_partner(world: dict) -> None:
    stored = replace(world["config"].data, source="store", root=str(world["sample"].store.path))
    with pytest.raises(ValueError, match="holds pairs alone; images without a partner need the surveys"):
        object_parts(stored, world["config"].matching, "images", Counter())


def test_any_galaxy_is_found_by_either_of_its_ids(world: dict) -> None:
    config, index = world["config"], world["sample"].store.index
    pair = galaxy_with_id(config.data, config.matching, str(index["hsc_object_id"][7]))
    assert pair.spectrum is not None
    assert pair.spectrum.object_id == index["sdss_object_id"][7]
    stored = replace(config.data, source="store", root=str(world["sample"].store.path))
    again = galaxy_with_id(stored, config.matching, str(index["sdss_object_id"][7]))
    assert again.cutout.object_id == index["hsc_object_id"][7]
    with pytest.raises(ValueError, match="no usable galaxy with object_id 12"):
        galaxy_with_id(config.data, config.matching, "12")


def test_a_bad_row_is_counted_and_the_others_are_predicted(world: dict, v1_tree, tmp_path: Path) -> None:
    wave = 10 ** (3.6 + 1e-4 * np.arange(3000))
    good = {"spectrum_lambda": wave, "spectrum_flux": np.ones(3000), "spectrum_ivar": np.ones(3000)}
    good |= {"spectrum_mask": np.zeros(3000, dtype=bool), "spectrum_lsf_sigma": np.ones(3000)}
    bad = {**good, "spectrum_lambda": np.full(3000, -1.0)}
    sdss = [{"object_id": n, "ra": 150 + 0.01 * n, "dec": 2.0, **(bad if n == 1 else good)} for n in range(3)]
    hsc = [{"object_id": 10 + n, "ra": 150 + 0.01 * n, "dec": 2.0} for n in range(3)]
    tree = v1_tree(tmp_path / "tree", sdss=sdss, hsc=hsc)
    data = replace(world["config"].data, source="hdf5", root=str(tree))
    config, out = replace(world["config"], data=data), tmp_path / "scores.csv"
    summary = predict(config, [world["run"]], out, QUIET)
    assert (summary.rows, summary.lost, sum(summary.drops.values())) == (2, 1, 1)
    assert "could not be read: 1" in summary.text()


def test_a_hub_gives_the_same_catalogue_as_the_tree_it_was_made_from(
    world: dict, hub_tree: Path, hub_data: DataConfig, tmp_path: Path
) -> None:
    tree = DataConfig(source="hdf5", root=str(hub_tree), spectra=("sdss",), cache_dir=str(tmp_path))
    tables = {}
    for name, data in (("tree", tree), ("hub", hub_data)):
        out = tmp_path / f"{name}.fits"
        predict(replace(world["config"], data=data), [world["run"]], out, replace(QUIET, objects="all"))
        tables[name] = Table.read(out)
        tables[name].sort(["modalities", "sdss_object_id", "hsc_object_id"])
    assert len(tables["hub"]) == len(tables["tree"]) > 10
    for column in ("sdss_object_id", "hsc_object_id", "modalities"):
        assert tables["hub"][column].tolist() == tables["tree"][column].tolist()
    np.testing.assert_allclose(tables["hub"]["logit"], tables["tree"]["logit"], atol=1e-5)


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # nested_pandas 0.7 says inplace= to pandas 3.1
def test_hats_catalogues_give_a_catalogue_too(world: dict, v1_tree, hats_collections, tmp_path: Path) -> None:
    sdss = [{"object_id": n, "ra": 150 + 0.01 * n, "dec": 2.0} for n in range(1, 4)]
    hsc = [{"object_id": 10 * n, "ra": 150 + 0.01 * n, "dec": 2.0} for n in range(2, 5)]
    data = hats_collections(v1_tree(tmp_path / "tree", sdss=sdss, hsc=hsc), tmp_path / "hats")
    config, out = replace(world["config"], data=data, dask=DaskConfig(workers=0)), tmp_path / "scores.parquet"
    predict(config, [world["run"]], out, replace(QUIET, objects="all"))
    content = {str(row["hsc_object_id"]): row["modalities"] for row in Table.read(out)}
    assert content == {"20": "image+spectrum", "30": "image+spectrum", "40": "image", "": "spectrum"}


def test_worker_processes_give_the_catalogue_of_threads(world: dict, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    predict(world["config"], [world["run"]], out, replace(QUIET, objects="all", workers=2))
    here, there = predicted(world, "all.parquet", objects="all"), Table.read(out)
    assert there.colnames == here.colnames
    for name in here.colnames:
        assert there[name].tolist() == pytest.approx(here[name].tolist(), nan_ok=True), name


def test_a_quasar_has_no_call_and_a_reason(world: dict, tmp_path: Path) -> None:
    store, ensemble = world["sample"].store, ensemble_of(world)
    decoder = Decoder(config=ensemble.members[0].config, bases=ensemble.bases)
    spectrum = replace(store.spectrum(3), spectral_class="QSO")
    galaxies = (
        Galaxy(cutout=store.cutout(3), spectrum=spectrum),
        Galaxy(cutout=store.cutout(3), spectrum=store.spectrum(3)),
        Galaxy(cutout=store.cutout(3), spectrum=None),
    )
    table = ensemble.table(decoder.decoded(GivenPart(members=galaxies)))
    assert table["agn"].mask.tolist() == [True, False, False]
    assert table["reason"].tolist()[::2] == ["quasar", "not measured"]
    assert table["bpt_class"].tolist()[::2] == ["unclassified", "unclassified"]
    row = int(np.flatnonzero(np.asarray(world["sample"].table["object_id"]) == store.spectrum(3).object_id)[0])
    assert table["bpt_class"][1] == world["sample"].table["bpt_class"][row]
    for suffix in ("parquet", "fits", "ecsv", "votable"):
        with table_file(tmp_path / f"one.{suffix}") as append:
            append(table)
        again = Table.read(tmp_path / f"one.{suffix}", format="votable" if suffix == "votable" else None)
        assert again["agn"].tolist() == table["agn"].tolist(), suffix
        assert again["agn"].tolist()[0] is None


def test_every_format_carries_the_provenance(world: dict, tmp_path: Path) -> None:
    table = predicted(world)
    assert json.loads(table.meta["RUNS"]) == ["run"]
    assert set(json.loads(table.meta["THRESH"])) == {"image+spectrum", "image", "spectrum"}
    for suffix in ("csv", "votable"):
        with table_file(tmp_path / f"scores.{suffix}") as append:
            append(table)
    stored = Table.read(tmp_path / "scores.csv", format="ascii.csv")["provenance"][0]
    assert json.loads(stored) == dict(table.meta)
    infos = {info.name: info.value for info in parse(tmp_path / "scores.votable").resources[0].infos}
    assert infos == {name: str(value) for name, value in table.meta.items()}

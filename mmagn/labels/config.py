"""Settings of the labels: the BPT class, and a catalogue of labels from outside."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

from mmagn.labels.presets import presets
from mmagn.labels.rules import parsed_rule
from mmagn.storage.settings import Settings, section, setting

LISTED, REST, NO_CUT = "listed", "rest", "none"
"""In place of a rule: each row of the table; each measured row that is not positive; no quality cut."""
INDEPENDENT = ("infrared", "x-ray", "radio")
"""Parts of the spectrum that no input of a network contains."""
Join = Literal["preset", "specobjid", "plate-mjd-fiber", "targetid", "hsc", "position"]
JOIN_COLUMNS: dict[Join, tuple[str, ...]] = {
    "specobjid": ("specobjid",),
    "plate-mjd-fiber": ("plate", "mjd", "fiberid"),
    "targetid": ("targetid",),
    "hsc": ("object_id",),
    "position": ("ra", "dec"),
}
"""Columns of each form of ids, where none are given."""


@dataclass(frozen=True, kw_only=True)
class CatalogConfig(Settings):
    """A table of labels that do not come from mmagn's own line fluxes.

    Attributes
    ----------
    table
        File or http(s) address of a table (FITS, VOTable, CSV, ECSV, Parquet); empty labels by the BPT diagram.
    preset
        A published catalogue whose ids and rules are known: see ``mmagn/labels/presets.yaml``. Settings that are given
        here stand above its own.
    join
        How rows of the table belong to objects: ``specobjid``, ``plate-mjd-fiber`` (three columns, or one text such as
        266-51630-1), ``targetid`` (DESI), ``hsc`` (HSC object id) or ``position`` (the row nearest to an
        object within ``radius_arcsec``).
    columns
        Columns of the ids or of RA and Dec in degrees; empty takes those of the preset, or the usual names.
    radius_arcsec
        Largest separation where rows are joined by position.
    positive
        Rule of a positive label, such as ``bptclass in [3, 4]`` or ``w1 - w2 >= 0.8 and w2 < 15.05``; ``listed``: each
        row of the table is positive.
    negative
        Rule of a negative label; ``rest``: each row where ``positive`` is false; empty: no row is negative. Rows that
        are neither, or both, are unknown.
    quality
        Rule that a row must pass for a label: where it is false or unknown, so is the label; empty takes the quality
        cuts of the preset as far as the table has columns for them, ``none`` makes no cut.
    missing
        Numbers that stand for a missing value in the table.
    moc
        Region that the catalogue covers, a MOC (FITS or JSON): objects inside that are absent from the table are
        negative. Without ``moc`` and ``depth`` they are unknown.
    depth
        Rule on mmagn's own columns, such as ``redshift < 0.3 and i_magnitude < 19``: where the catalogue would list a
        positive object. With a MOC both must hold.
    unknown
        ``excluded``: objects without a label are left out of training and scores; ``background``: they are trained and
        scored against as if negative (positive-unlabelled data), and named as background.
    made_of
        The part of the spectrum that the label was made of; ``unstated`` takes that of the preset. No input contains
        ``infrared``, ``x-ray`` and ``radio``: models are then on rung L4 of the leakage ladder.
    use
        ``train``: train and score on these labels; ``score``: train on the BPT label, and score on both.
    """

    SECTION = "labels.catalog"
    table: str = setting("", "fit", path=True)
    preset: str = setting("", "fit", choices=("", *presets()))
    join: Join = setting("preset", "fit")
    columns: tuple[str, ...] = setting((), "fit", each_once=True)
    radius_arcsec: float = setting(1.0, "fit", above=0, at_most=60, needs=("labels.catalog.join", "preset", "position"))
    positive: str = setting("", "fit")
    negative: str = setting("", "fit")
    quality: str = setting("", "fit")
    missing: tuple[float, ...] = setting((-99.0, -999.0, -9999.0), "fit")
    moc: str = setting("", "fit", path=True)
    depth: str = setting("", "fit")
    unknown: Literal["excluded", "background"] = setting("excluded", "fit", needs=("labels.catalog.use", "train"))
    made_of: Literal["unstated", "optical", "mixed", "infrared", "x-ray", "radio"] = setting("unstated", "fit")
    use: Literal["train", "score"] = setting("train", "fit")

    def __post_init__(self) -> None:
        super().__post_init__()
        changed = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        if changed and not self.table:
            raise ValueError(
                f"labels.catalog.{changed[0]} is set but labels.catalog.table is empty; name the table of labels"
            )
        if self.table and not self.preset and (self.join == "preset" or not self.positive):
            name = "join" if self.join == "preset" else "positive"
            raise ValueError(
                f"labels.catalog.{name} is not given; allowed: give it, or labels.catalog.preset, one of "
                f"{', '.join(presets())}"
            )
        preset = presets().get(self.preset)
        if "radius_arcsec" in changed and self.join == "preset" and preset and preset.join != "position":
            raise ValueError(
                f"labels.catalog.radius_arcsec is set, but the preset {self.preset} joins by {preset.join}; leave it "
                "out, or set labels.catalog.join position"
            )
        if LISTED in (self.positive, not self.positive and preset and preset.positive) and self.negative:
            raise ValueError(
                f"labels.catalog.negative is {self.negative}, but labels.catalog.positive is {LISTED}: no row is left "
                "to be negative; give a rule for the positive rows"
            )
        for name in ("positive", "negative", "quality", "depth"):
            text = getattr(self, name)
            if text and text != {"positive": LISTED, "negative": REST, "quality": NO_CUT}.get(name):
                try:
                    parsed_rule(text)
                except ValueError as error:
                    raise ValueError(f"labels.catalog.{name}: {error}") from None

    @property
    def resolved(self) -> Self:
        """The same with the settings of its preset, and the usual columns, where none are given."""
        values: dict[str, Any] = {}
        if self.preset:
            preset = presets()[self.preset]
            values = {
                name: getattr(preset, name)
                for name in ("join", "columns", "positive", "negative", "made_of")
                if getattr(self, name) in ("", "preset", "unstated", ())
            }
            if self.join not in ("preset", preset.join) and not self.columns:
                values["columns"] = ()
        result = replace(self, **values)
        return result if result.columns else replace(result, columns=JOIN_COLUMNS[result.join])

    @property
    def independent(self) -> bool:
        """Whether there is a table, and no input of a network contains what its labels are made of."""
        return bool(self.table) and self.resolved.made_of in INDEPENDENT


@dataclass(frozen=True, kw_only=True)
class LabelsConfig(Settings):
    """How line fluxes become a class and a target.

    Attributes
    ----------
    seyfert_liner
        Line between Seyfert and LINER on the [N II] plane.
    min_snr
        Signal-to-noise that all four BPT lines need; 0 labels without a cut.
    vote
        Let the majority of the [N II], [S II] and [O I] planes decide between Seyfert and LINER.
    retired_cut
        Leave retired galaxies (W(Ha) below 3 A on the WHAN plane) unclassified, with the reason counted.
    exclude_broad
        Leave broad-line objects and quasars unclassified, with the reason counted.
    draws
        Monte-Carlo draws of the fluxes behind the class probabilities.
    seed
        Seed of those draws.
    soft
        Train on P(AGN) of each object, from the draws of its fluxes, instead of on 0 or 1; validation, test and all
        scores keep 0 or 1.
    catalog
        Labels of a table from outside, in place of the BPT label or beside it.
    """

    SECTION = "labels"
    seyfert_liner: Literal["schawinski2007", "cidfernandes2010"] = setting("schawinski2007", "labels")
    min_snr: float = setting(3.0, "labels", at_least=0)
    vote: bool = setting(False, "labels")
    retired_cut: bool = setting(False, "labels")
    exclude_broad: bool = setting(True, "labels")
    draws: int = setting(1000, "labels", at_least=1)
    seed: int = setting(0, "labels", at_least=0, below=2**32)
    soft: bool = setting(False, "fit")
    catalog: CatalogConfig = section(CatalogConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.soft and self.catalog_trains:
            raise ValueError(
                "labels.soft is true, but the labels of labels.catalog.table have no probability; leave one of them "
                "out, or set labels.catalog.use score"
            )

    @property
    def catalog_trains(self) -> bool:
        """Whether networks are trained on the labels of a catalogue, not on the BPT label."""
        return bool(self.catalog.table) and self.catalog.use == "train"

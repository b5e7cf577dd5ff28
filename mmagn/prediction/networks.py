"""Galaxies through the networks of an ensemble: batches, pinned copies for a GPU, and the rows of the catalogue."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from torch import Tensor

from mmagn.evaluation.catalog import catalog_table
from mmagn.evaluation.ensemble import MemberPrediction, ensemble_columns
from mmagn.evaluation.network import EVALUATION_BATCH, NetworkOutput, network_output
from mmagn.evaluation.subsets import subset_names
from mmagn.labels.catalog import LabelCatalog
from mmagn.matching.objects import PART_OBJECTS
from mmagn.prediction.decode import Decoded
from mmagn.runs.members import TrainedMember
from mmagn.runs.outside_labels import add_labels, label_objects
from mmagn.runs.sample import with_vector_length
from mmagn.spectroscopy.basis import ContinuumBasis
from mmagn.storage.vectors import vector_table
from mmagn.tensors.missing import features_present
from mmagn.tensors.residency import vector_columns

Bases = list[ContinuumBasis | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ensemble:
    """Trained networks on one device.

    Attributes
    ----------
    members
        The networks; all take the same input.
    device
        Where they run.
    prevalence
        Fraction of AGN among the galaxies; None takes that of the validation split.
    embeddings
        File of the vectors, for networks that take them; empty takes that of the training.
    labels
        Catalogue whose label of each galaxy stands beside the prediction; None for none.
    meta
        Metadata of the catalogue.

    Raises
    ------
    ValueError
        Where the networks take vectors, and the file has none of their length.
    """

    members: Sequence[TrainedMember]
    device: str
    prevalence: float | None = None
    embeddings: str = ""
    labels: LabelCatalog | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    _pinned: dict[tuple[str, int], Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        config = self.members[0].config
        with_vector_length(replace(config, data=replace(config.data, embeddings=self._file)))

    @property
    def _file(self) -> str:
        return self.embeddings or self.members[0].config.data.embeddings

    @property
    def bases(self) -> Bases:
        """Distinct continuum bases of the members."""
        bases: Bases = []
        for member in self.members:
            if member.basis not in bases:
                bases.append(member.basis)
        return bases

    def outputs(self, decoded: Decoded, place: int = 0) -> list[NetworkOutput]:
        """Return the output of each network; a GPU works on while this function returns.

        Parameters
        ----------
        decoded
            Galaxies as network input.
        place
            Number of the pinned copy to use; its previous use must have been waited for.
        """
        inputs = self._inputs(decoded, place)
        size = EVALUATION_BATCH if self.device == "cpu" else PART_OBJECTS
        return [
            network_output(member.model, self._batches(decoded, inputs, member, size), self.device)
            for member in self.members
        ]

    def table(self, decoded: Decoded, outputs: Sequence[NetworkOutput] | None = None) -> Table:
        """Return the rows of the catalogue for some galaxies, in their order."""
        subset = subset_names(decoded.image_valid, decoded.spectrum_valid, self.members[0].known)
        outputs, predictions = outputs or self.outputs(decoded), []
        if "embedding" in self.members[0].config.models.branches:  # an object may have nothing that the network takes
            stated = np.isfinite(np.stack(list(outputs[0].part_arrays().values()))).any(axis=0)
            subset = np.where(stated, subset, "")
        for member, output in zip(self.members, outputs, strict=True):
            prediction = MemberPrediction.empty(len(decoded))
            logits, embedding = output.arrays()
            parts = output.part_arrays()
            for name in member.known:
                rows = np.flatnonzero(subset == name)
                if not len(rows):
                    continue
                if name not in member.calibrations:
                    raise ValueError(f"{member.path} has no calibration for {name}; evaluate.py --run makes it")
                alone = {part: values[rows] for part, values in parts.items()}
                prediction.fill(rows, logits[rows], alone, member.calibrations[name], self.prevalence)
                if name in member.novelty:
                    prediction.distance[rows] = member.novelty[name].distance(embedding[rows])
            predictions.append(prediction)
        columns = decoded.columns | {"modalities": subset} | ensemble_columns(predictions)
        table = catalog_table(columns, self.meta)
        if self.labels is not None:
            add_labels(table, label_objects(columns), self.labels)
        return table

    def batches(self, decoded: Decoded, member: TrainedMember) -> Iterator[dict[str, Tensor]]:
        """Yield the batches that one of the networks takes, in single precision on the CPU."""
        inputs = _views(decoded)
        for batch in self._batches(decoded, inputs, member, EVALUATION_BATCH):
            yield {name: value.float() if value.dtype == torch.float16 else value for name, value in batch.items()}

    def _inputs(self, decoded: Decoded, place: int) -> dict[str, Tensor]:
        """Views and their valid flags, on the device; on a CPU they are not copied."""
        views = _views(decoded)
        if self.device == "cpu":
            return views
        return {name: self._copied(name, place, value) for name, value in views.items()}

    def _copied(self, name: str, place: int, value: Tensor) -> Tensor:
        """Copy on the device by way of pinned memory, which is allocated once."""
        pinned = self._pinned.get((name, place))
        if pinned is None or len(pinned) < len(value):
            pinned = self._pinned[name, place] = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        return pinned[: len(value)].copy_(value).to(self.device, non_blocking=True)

    def _batches(
        self, decoded: Decoded, inputs: Mapping[str, Tensor], member: TrainedMember, size: int
    ) -> Iterator[dict[str, Tensor]]:
        whole = dict(inputs)
        if decoded.features:
            values, valid = decoded.features[self.bases.index(member.basis)]
            columns = member.feature_columns
            whole["features"] = torch.from_numpy(member.scaling.transform(values[:, columns], valid[:, columns]))
            names = member.config.tensors.features
            whole["features_valid"] = features_present(
                valid[:, columns], names, decoded.image_valid, decoded.spectrum_valid
            )
        if "embedding" in member.config.models.branches:
            ids = [decoded.columns[name].tolist() for name in ("sdss_object_id", "hsc_object_id")]
            whole |= vector_columns(vector_table(self._file).of(*ids))
        for start in range(0, len(decoded), size):
            yield {name: values[start : start + size] for name, values in whole.items()}


def _views(decoded: Decoded) -> dict[str, Tensor]:
    """Image and spectrum where the network has a branch for them, with valid flags."""
    views = {"image": decoded.image, "spectrum": decoded.spectrum}
    return {name: view for name, view in views.items() if view is not None} | {
        "image_valid": torch.from_numpy(decoded.image_valid),
        "spectrum_valid": torch.from_numpy(decoded.spectrum_valid),
    }

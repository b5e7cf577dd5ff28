"""Which reader a configuration asks for."""

from mmagn.surveys.config import DataConfig
from mmagn.surveys.hdf5.reader import Hdf5Reader
from mmagn.surveys.reader import SurveyReader


def survey_reader(data: DataConfig) -> SurveyReader:
    """Return the reader of the source that ``data.source`` names; nothing is read yet.

    Libraries that only one source needs are imported with its reader. Raises ``ValueError`` for a source that holds
    pairs and no surveys.
    """
    match data.source:
        case "embedded" | "hdf5":
            return Hdf5Reader(data=data)
        case "hub":
            from mmagn.surveys.hub.reader import HubReader

            return HubReader(data=data)
        case "hub-pairs":
            from mmagn.surveys.hub.pairs import HubPairsReader

            return HubPairsReader(data=data)
        case "hats":
            from mmagn.surveys.hats.reader import HatsReader

            return HatsReader(data=data)
        case "files":
            from mmagn.surveys.files.reader import FilesReader

            return FilesReader(data=data)
        case _:
            allowed = "embedded, hdf5, hub, hats, files"
            raise ValueError(f"data.source {data.source} holds pairs already; matching needs the surveys: {allowed}")

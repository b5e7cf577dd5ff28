"""Which reader a configuration asks for."""

from mmagn.surveys.config import DataConfig
from mmagn.surveys.hdf5.reader import Hdf5Reader
from mmagn.surveys.reader import SurveyReader


def survey_reader(data: DataConfig) -> SurveyReader:
    """Return the reader of the source that ``data.source`` names; nothing is read yet.

    Raises
    ------
    ValueError
        For a source that holds pairs and no surveys.
    """
    source: str = data.source
    if source in ("embedded", "hdf5"):
        return Hdf5Reader(data=data)
    if source == "hub":
        from mmagn.surveys.hub.reader import HubReader  # only here, so that the other sources do without its libraries

        hub: SurveyReader = HubReader(data=data)
        return hub
    if source == "hub-pairs":
        from mmagn.surveys.hub.pairs import HubPairsReader  # only here, as above

        ready: SurveyReader = HubPairsReader(data=data)
        return ready
    if source == "hats":
        from mmagn.surveys.hats.reader import HatsReader  # only here, its libraries are an optional extra

        hats: SurveyReader = HatsReader(data=data)
        return hats
    if source == "files":
        from mmagn.surveys.files.reader import FilesReader  # only here, as above

        files: SurveyReader = FilesReader(data=data)
        return files
    allowed = "embedded, hdf5, hub, hats, files"
    raise ValueError(f"data.source {source} holds pairs already; matching needs the surveys: {allowed}")

"""mmagn decides from two views of one galaxy, an HSC image and an SDSS spectrum, whether it hosts an AGN."""

from importlib.metadata import version

__version__ = version("mmagn")

"""The wheel carries the folder configs/ as the package mmagn.configs; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mmagn", "mmagn.*"]), "mmagn.configs"],
    package_dir={"mmagn.configs": "configs"},
    package_data={
        "mmagn": ["py.typed", "*.ecsv", "labels/*.yaml", "leaderboard/*.yaml", "reporting/page/templates/*"],
        "mmagn.configs": ["*.yaml"],
    },
)

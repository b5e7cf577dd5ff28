"""A worker of a Dask cluster loads what its task needs and nothing else: start-up is most of a short task."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "datasets", "lightning", "sklearn", "optuna", "jinja2", "specutils")


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("mmagn.surveys.hats.reader", ()),
        ("mmagn.surveys.hdf5.reader", ()),
        ("mmagn.surveys.files.reader", ()),
        ("mmagn.matching.shards", ()),
        ("mmagn.matching.hats_matching", ()),
        ("mmagn.measurement.table", ("torch",)),
    ],
)
def test_what_a_worker_imports_loads_no_library_that_it_does_not_use(module, needed):
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert tuple(result.stdout.split()) == needed

"""The page takes the pairs of a run from its store, and refuses another store by the id that is missing."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from astropy.table import Table

from mmagn.reporting.page.galaxies import Payload


def test_an_object_that_is_not_in_the_store_is_named() -> None:
    store = SimpleNamespace(path=Path("stores/a"), index=Table({"sdss_object_id": ["7", "8"]}), pair=lambda row: row)
    pair_of = Payload(store=store).pair_of()  # type: ignore[arg-type]
    assert pair_of is not None
    assert pair_of("8") == 1
    with pytest.raises(ValueError, match=r"stores/a has no pair with SDSS id 9: it is not the store of this run"):
        pair_of("9")
    assert Payload(store=None).pair_of() is None

"""The browser of the tests of pages."""

from browser import browser, page  # noqa: F401 - fixtures

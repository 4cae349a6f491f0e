"""Chromium and a scripted backend for the page's tests."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from page_backend import KEY, Backend
from page_browser import browser, opened
from playwright.sync_api import Browser, Page

Open = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One Chromium a module: Playwright's loop would be in the way of other modules' tests."""
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def _backend() -> Iterator[Backend]:
    running = Backend().start()
    yield running
    running.stop()


@pytest.fixture
def backend(_backend: Backend) -> Iterator[Backend]:
    """The backend, as new."""
    _backend.reset()
    yield _backend
    _backend.go()


@pytest.fixture
def open_page(chromium: Browser, backend: Backend) -> Open:
    """Open the page in a profile of one's own: `with open_page(viewport=…) as page`."""

    def open_it(key: str | None = KEY, **context: Any) -> AbstractContextManager[Page]:
        return opened(chromium, backend.url, key, **context)

    return open_it


@pytest.fixture
def page(open_page: Open) -> Iterator[Page]:
    """The page with a good key, on a desktop, in light."""
    with open_page() as opened_page:
        yield opened_page

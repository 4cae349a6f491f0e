"""A headless Chromium for the web page's tests, and what every page test watches for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """Where Chromium is; without one a test is skipped, except where `CI` is set."""
    found = os.environ.get("CAPSTAN_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found:
        return found
    reason = "no Chromium: install Debian's package 'chromium', or set CAPSTAN_CHROMIUM to another one's path"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


PATIENCE_MS = 60_000
"""Tests wait for what they look for, and no longer; a busy machine may take its time."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, started once for many tests."""
    path = chromium()
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@contextmanager
def opened(running: Browser, url: str, key: str | None, **context: Any) -> Iterator[Page]:
    """The page in a fresh profile. Leaving it fails when something was refused, thrown, or left the origin."""
    options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **context}
    profile = running.new_context(**options)
    profile.set_default_timeout(PATIENCE_MS)
    try:
        page = profile.new_page()
        complaints = _watched(profile, page, url)
        page.goto(f"{url}/#key={key}" if key else f"{url}/")
        yield page
        assert not complaints, "\n".join(complaints)
    finally:
        profile.close()


def _watched(profile: BrowserContext, page: Page, url: str) -> list[str]:
    complaints: list[str] = []

    def on_console(message: Any) -> None:
        # A status such as 401 is logged by the browser itself; what the page makes of it is what tests look at.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            complaints.append(f"console: {message.text}")

    def on_request(request: Any) -> None:
        if not request.url.startswith((f"{url}/", "blob:", "data:")):
            complaints.append(f"left the origin: {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(f"thrown: {error}"))
    profile.on("request", on_request)
    return complaints

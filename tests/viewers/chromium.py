"""The distribution's Chromium without a window, drawing WebGL in software as machines without a GPU do."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import BrowserContext, sync_playwright

PROGRAM = "/usr/bin/chromium"
WIDTH, HEIGHT = 1280, 800
_OPTIONS = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--no-sandbox",  # it may run as root, and shows only our own pages
)
PATIENCE = 90.0
"""Seconds until what should be on a page is missing: software rendering on a busy machine takes its time."""


@contextmanager
def open_browser() -> Iterator[BrowserContext]:
    """A browser with an empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=list(_OPTIONS))
        try:
            context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
            context.set_default_timeout(1000 * PATIENCE)
            # OHIF's tour is for those who come for the first time.
            context.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
            yield context
        finally:
            browser.close()

"""A real Chromium for tests: a loud skip where there is none, which RPO_CI turns into a failure."""

import shutil
from contextlib import contextmanager

import pytest

SIZES = {"desktop": (1280, 860), "phone": (390, 844)}


@contextmanager
def chromium():
    """A running browser, through playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install 'rpo-cli[browser]'")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        # --no-sandbox: Chromium refuses to run as root with it
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(browser, size="desktop", scheme="light", **options):
    """A page of its own that collects what the console and failed requests say, in `page.complaints`."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        has_touch=size == "phone",
        **options,
    )
    context.set_default_timeout(120_000)  # milliseconds; other tests may have every core
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("requestfailed", lambda request: page.complaints.append(f"failed: {request.url}"))
    try:
        yield page
    finally:
        context.close()


def overflow(page):
    """Pixels by which a page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def unloaded(page):
    """Addresses of pictures that have not loaded; each is brought into view first, as some load late."""
    return page.evaluate(
        """async () => {
            const images = [...document.images];
            for (const image of images) image.loading = "eager";
            await Promise.all(images.map((image) => image.complete || new Promise((done) => {
                image.onload = image.onerror = done;
            })));
            return images.filter((image) => !image.naturalWidth).map((image) => image.src);
        }"""
    )

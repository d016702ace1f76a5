"""Chromium, a server for what `make site` built, and a page that keeps its complaints."""

import http.server
import os
import threading
from functools import partial

import chromium
import pytest
from looking import HEIGHTS, SITE, listen
from playwright.sync_api import Page, sync_playwright

FLAGS = ["--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-quic"]


@pytest.fixture(scope="session")
def browser():
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        flags = FLAGS + as_root
        yield playwright.chromium.launch(executable_path=chromium.PATH, args=flags)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture(scope="session")
def site():
    """The address of the built site, served as it would be on the web."""
    handler = partial(Quiet, directory=SITE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def visit(browser):
    """visit(url, width, dark=False): the page there, loaded, and its list of complaints."""
    contexts = []

    def visit(url: str, width: int, dark: bool = False) -> tuple[Page, list[str]]:
        context = browser.new_context(
            viewport={"width": width, "height": HEIGHTS[width]},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page, complaints = context.new_page(), []
        listen(page, complaints, own=url.partition("//")[2].partition("/")[0])
        page.set_default_timeout(120_000)
        page.goto(url)
        return page, complaints

    yield visit
    for context in contexts:
        context.close()

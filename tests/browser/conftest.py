"""Chromium, servers for what was built, and a page that keeps its complaints."""

import http.server
import os
import threading
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlencode

import chromium
import pytest
from looking import HEIGHTS, SITE, listen
from playwright.sync_api import Page, sync_playwright

import lens_page

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


@contextmanager
def served(folder):
    """The address of a folder, served as it would be on the web."""
    handler = partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def site():
    """The address of the built site."""
    with served(SITE) as address:
        yield address


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


@pytest.fixture(scope="session")
def lens_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "lens"
    lens_page.copy_to(folder)
    return folder


@pytest.fixture(scope="session", params=["from a disk", "from a server"])
def lens_address(request, lens_folder):
    if request.param == "from a disk":
        yield (lens_folder / "index.html").as_uri()
    else:
        with served(lens_folder) as address:
            yield f"{address}/index.html"


@pytest.fixture
def look(visit, lens_address):
    """look(query="", dark=False, **state): the lens, with its first answer drawn."""

    def look(query="", dark=False, **state):
        part = f"#{urlencode(state)}" if state else ""
        page, complaints = visit(f"{lens_address}{query}{part}", 1024, dark)
        page.wait_for_selector(".triangle")
        page.set_default_timeout(20_000)
        return page, complaints

    return look

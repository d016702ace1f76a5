"""JupyterLab end to end: notebook 00, Run > Run All Cells, the last figure."""

import json
import os
import platform
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import nbformat
import pytest
from looking import HEIGHTS, ROOT
from playwright.sync_api import TimeoutError as Late

import cells

NAME = "00_start_here.ipynb"
MINUTES = 10  # on a busy machine; half a minute on a quiet one
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Cells out of sight stay in the page.
    "notebook-extension/tracker": {"windowingMode": "none"},
}


def copy_of_the_course(to) -> int:
    """The repository in `to`, notebook 00 without outputs. The cell of its last figure."""
    rest = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for part in ("attnres_ref", "kernels", "tiny_data", "notebooks"):
        shutil.copytree(ROOT / part, to / part, ignore=rest)
    notebook = cells.read(to / "notebooks" / NAME)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    drawing = [
        place for place, cell in enumerate(code)
        if any("image/png" in output.get("data", {}) for output in cell.outputs)
    ]
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, to / "notebooks" / NAME)
    return drawing[-1]


@pytest.fixture
def lab(tmp_path):
    """Address of a JupyterLab on a copy of the course, and the last figure's cell."""
    figure = copy_of_the_course(tmp_path)
    for name, setting in SETTINGS.items():
        path = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(setting))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    own = {name: str(tmp_path / name.lower()) for name in (
        "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
        "ATTNRES_CACHE_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"), "ATTNRES_PRESET": "ci"}
    makefile = (ROOT / "Makefile").read_text()
    as_make_does = re.search(r"^lab:.*\n\t\$\(RUN\) (.+)", makefile, re.M)[1]
    command = [
        sys.executable, *shlex.split(as_make_does.replace("00_*.ipynb", NAME)),
        "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
    ]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, env=os.environ | own, cwd=tmp_path, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token={token}", server)
        yield f"http://127.0.0.1:{port}/lab/tree/notebooks/{NAME}?token={token}", figure
    finally:
        server.terminate()
        server.wait(60)


def wait_for(address: str, server: subprocess.Popen) -> None:
    for _ in range(60 * MINUTES):
        assert server.poll() is None, "JupyterLab ended"
        try:
            return urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(1)
    raise TimeoutError(address)


def run_all(page) -> None:
    """Run > Run All Cells, again if no cell has begun: in one run of all tests nothing
    followed the click."""
    begun = page.locator(".jp-CodeCell .jp-InputPrompt", has_text=re.compile(r"\[[*\d]"))
    for _ in range(3):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        enabled = page.locator(".lm-Menu-item:not(.lm-mod-disabled) .lm-Menu-itemLabel")
        enabled.filter(has_text=re.compile("^Run All Cells$")).click()
        with suppress(Late):
            return begun.first.wait_for(timeout=30_000)


def test_run_all_draws_the_last_figure(lab, browser):
    address, figure = lab
    context = browser.new_context(viewport={"width": 1024, "height": HEIGHTS[1024]})
    page = context.new_page()
    page.set_default_timeout(60_000 * MINUTES)
    page.goto(address)
    page.locator(".jp-NotebookPanel .jp-MarkdownCell").first.click()  # now it is current
    page.wait_for_selector(".jp-NotebookPanel-toolbar [data-status=idle]", state="attached")
    picture = page.locator(".jp-CodeCell").nth(figure).locator(".jp-OutputArea-output img")
    assert picture.count() == 0, "the outputs are to be new ones"

    run_all(page)
    picture.wait_for()
    picture.scroll_into_view_if_needed()
    assert picture.is_visible()
    assert picture.evaluate("(image) => image.naturalWidth") > 300
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    (ROOT / "build" / "screenshots").mkdir(exist_ok=True)
    for width, height in HEIGHTS.items():
        page.set_viewport_size({"width": width, "height": height})
        picture.scroll_into_view_if_needed()
        page.screenshot(path=ROOT / "build" / "screenshots" / f"lab_{width}.png")
    context.close()


def test_notebooks_open_unchanged(lab, browser, tmp_path):
    page = browser.new_page()
    page.set_default_timeout(60_000 * MINUTES)
    page.goto(lab[0].replace(f"/{NAME}", ""))
    paths = cells.notebooks(tmp_path)
    for path in paths:
        notebook = cells.read(path)
        # JupyterLab notes the reader's Python in each notebook that it opens.
        notebook.metadata.language_info.version = platform.python_version()
        nbformat.write(notebook, path)
        page.locator(".jp-DirListing-item", has_text=path.name).dblclick()
        shown = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        shown.locator(".jp-Toolbar [data-status=idle]").wait_for(state="attached")
    page.wait_for_timeout(5_000)       # what JupyterLab changes, it changes by and by
    tabs = page.locator("#jp-main-dock-panel .lm-TabBar-tab")
    names = [name for name in tabs.all_inner_texts() if name.endswith(".ipynb")]
    assert sorted(names) == [path.name for path in paths]
    assert page.locator(".lm-TabBar-tab.jp-mod-dirty").all_inner_texts() == []
    page.close()


def test_links_lead_to_the_code_and_to_a_place_on_a_page(lab, browser):
    page = browser.new_page()
    page.set_default_timeout(60_000 * MINUTES)
    page.goto(lab[0].replace(NAME, "01_prenorm.ipynb"))
    page.wait_for_selector(".jp-NotebookPanel-toolbar [data-status=idle]", state="attached")
    links = page.locator(".jp-NotebookPanel .jp-RenderedMarkdown a")
    links.and_(page.locator("[href*='/model.py']")).first.click()
    page.locator(".lm-TabBar-tabLabel", has_text=re.compile("^model.py$")).wait_for()
    page.locator(".lm-TabBar-tabLabel", has_text=re.compile("^01_prenorm")).click()
    links.and_(page.locator("[href$='#set-ups']")).first.click()
    heading = page.locator(".jp-MarkdownViewer h2", has_text="Set-ups")
    heading.wait_for()
    page.wait_for_function(
        "(h) => h.getBoundingClientRect().top < innerHeight / 2 && "
        "h.getBoundingClientRect().top > 0", arg=heading.element_handle(), timeout=60_000)
    page.close()

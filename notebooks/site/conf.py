"""Sphinx on build/site-source, which notebooks/site/site_source.py writes."""

import hashlib
import sys
from base64 import b64decode
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("", "kernels", "notebooks/site", "notebooks/tools")
sys.path[:0] = [str(ROOT / part) for part in PARTS]

import cells  # noqa: E402
import links  # noqa: E402

project = "Attention Residuals from scratch"
author = copyright = "the course's authors"
html_title = project
language = "en"
smartquotes = False  # [..., d] has three dots

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "plain_docstrings"]
nb_execution_mode = "off"  # the stored outputs are the record
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = [
    "mystnb.unknown_mime_type",
]

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of torch are not written as ours are
autodoc_mock_imports = [] if find_spec("triton") else ["triton"]  # none on macOS

mathjax_path = "mathjax/tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}  # the menu loads parts from afar

html_theme = "sphinx_book_theme"
html_context = {"default_mode": "auto"}  # light or dark as the reader's system has it
html_favicon = "static/icon.svg"
templates_path = ["templates"]
html_static_path = ["static", str(ROOT / "build" / "site-static")]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_use_index = html_domain_indices = False  # the page of the code lists the modules
html_theme_options = {
    "repository_url": f"https://github.com/{links.setting()}",
    "repository_branch": "main",
    "use_repository_button": True,
    "use_download_button": False,  # the staged notebooks' links hold on the site alone
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "max_navbar_depth": 1,  # the page of the code lists its modules
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def pictures() -> dict[str, str]:
    """Alt text of every stored picture, by the name MyST-NB will give its file."""
    found = {}
    for path in cells.notebooks(ROOT):
        for cell in cells.read(path).cells:
            for output in cell.get("outputs", []):
                if png := output.get("data", {}).get("image/png"):
                    name = hashlib.sha256(b64decode(png)).hexdigest()
                    found[name] = output.metadata["image/png"]["alt"]
    return found


def set_alt(app, doctree) -> None:
    from docutils import nodes

    for image in doctree.findall(nodes.image):
        alt = app.config.picture_alts.get(Path(image["uri"]).stem)
        if alt:
            image["alt"] = alt


def setup(app) -> None:
    app.add_config_value("picture_alts", pictures(), "env")
    app.connect("doctree-read", set_alt)

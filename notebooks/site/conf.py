"""Sphinx on build/site-source, which site_source.py writes. `make site` puts this folder,
notebooks/tools and notebooks/recording on the path."""

from importlib.resources import files
from importlib.util import find_spec

import links

REPO = links.setting() if links.known() else ""
project = "Attention Residuals from scratch"
author = copyright = "the course's authors"
html_title = project
language = "en"
smartquotes = False  # [..., d] has three dots

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax",
              "plain_docstrings", "head"]
nb_execution_mode = "off"  # the stored outputs are the record
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath", "html_image"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of torch are not written as ours are
autodoc_mock_imports = [] if find_spec("triton") else ["triton"]  # none on macOS

# No page loads anything from afar.
MATHJAX = files("mathjax") / "static/mathjax/es5/tex-svg.js"
mathjax_path = MATHJAX.name
mathjax3_config = {"options": {"enableMenu": False}}  # the menu loads parts from afar

html_theme = "sphinx_book_theme"
html_context = {"default_mode": "auto"}  # light or dark as the reader's system has it
html_favicon = "static/icon.svg"
html_baseurl = links.published(REPO) if REPO else ""    # the pages' canonical addresses
templates_path = ["templates"]
html_static_path = ["static", str(MATHJAX)]
html_css_files = ["site.css", "front.css"]
html_js_files = [(name, {"defer": "defer"}) for name in ("site.js", "copy.js")]
html_sidebars = {"**": ["navbar-logo.html", "search-button-field.html", "beside.html",
                        "sbt-sidebar-nav.html"]}
html_show_sphinx = False
html_copy_source = False
html_use_index = html_domain_indices = False  # the page of the code lists the modules
html_theme_options = {
    "use_download_button": False,  # the staged notebooks' links hold on the site alone
    "article_footer_items": ["feedback.html"],
    "footer_content_items": ["extra-footer.html"],
    "extra_footer": (
        'The method is from <a href="https://arxiv.org/abs/2603.15031">the Kimi Team</a>, '
        "and this course is an independent implementation of it, under Apache-2.0."
    ),
    "max_navbar_depth": 1,  # the page of the code lists its modules
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
if REPO:
    html_theme_options |= {
        "repository_url": f"https://github.com/{REPO}",
        "repository_branch": "main",
        "use_repository_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    }

"""A Sphinx extension: what a shared link shows of a page, and what lies beside the pages.

Every page gets a description, Open Graph tags and a link for feedback. The picture and the
address in such tags are absolute, so they wait until the site's address is known.
"""

import shutil
from html import escape
from pathlib import Path
from urllib.parse import quote

from docutils import nodes

import lens_page
import links

SITE = "A course in notebooks that builds Attention Residuals step by step in PyTorch."
LONGEST = 200                          # characters of a description


def description(page: nodes.document | None) -> str:
    """The first paragraph that is no row of links and holds neither formulas nor HTML."""
    for paragraph in page.findall(nodes.paragraph) if page else ():
        text = " ".join(paragraph.astext().split())
        linked = sum(len(link.astext()) for link in paragraph.findall(nodes.reference))
        odd = [*paragraph.findall(nodes.math), *paragraph.findall(nodes.raw)]
        if 2 * linked < len(text) > 40 and not odd:
            cut = text[: LONGEST + 1].rpartition(" ")[0] + " ..."
            return text if len(text) <= LONGEST else cut
    return SITE


def tags(title: str, text: str, address: str | None) -> str:
    """The elements for <head>. address: of the page, if it is known."""
    found = {"og:type": "website", "og:site_name": "Attention Residuals from scratch",
             "og:title": title, "og:description": text}
    if address:
        found |= {"og:url": address,
                  "og:image": links.published(links.setting()) + "_static/card.png"}
    card = "summary_large_image" if address else "summary"
    lines = [f'<meta name="description" content="{escape(text)}">',
             f'<meta name="twitter:card" content="{card}">']
    lines += [f'<meta property="{k}" content="{escape(v)}">' for k, v in found.items()]
    return "\n".join(lines) + "\n"


def feedback(title: str) -> str:
    """Where a new issue about a page is begun; nowhere before the address is known."""
    about = quote(f"{title}: something is unclear")
    home = f"https://github.com/{links.setting()}"
    return f"{home}/issues/new?title={about}" if links.known() else ""


def on_page(app, name, template, context, doctree) -> None:
    title = heading(doctree) or app.config.project
    address = context.get("pageurl") if links.known() else None
    context["metatags"] = context.get("metatags", "") + tags(
        title, description(doctree), address)
    context["feedback"] = feedback(title) if doctree else ""


def heading(page: nodes.document | None) -> str:
    """The first heading as plain text."""
    found = page and next(page.findall(nodes.title), None)
    return found.astext() if found else ""


def on_finish(app, error) -> None:
    """Lay beside the pages the lens, and the pictures that the front page's HTML asks for:
    Sphinx does not see those."""
    if not error:
        source, target = Path(app.srcdir), Path(app.outdir)
        lens_page.copy_to(target / "lens")
        figures = Path("notebooks", "figures")
        shutil.copytree(source / figures, target / figures, dirs_exist_ok=True)


def setup(app) -> dict:
    app.connect("html-page-context", on_page)
    app.connect("build-finished", on_finish)
    app.connect("config-inited", lambda app, config: config.html_static_path.append(
        str(Path(app.srcdir) / "_static")))       # the front page's pictures
    return {"parallel_read_safe": True, "parallel_write_safe": True}

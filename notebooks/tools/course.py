"""Run the course without a browser.

    python notebooks/tools/course.py                  # all; what `make course` does
    python notebooks/tools/course.py 02 03            # two notebooks
    python notebooks/tools/course.py --in-place 02    # record its outputs anew

Executed notebooks and HTML go to build/course/; --in-place writes into notebooks/
instead. Sizes come from the preset in force (ATTNRES_PRESET, else the device). The
first cell that fails ends the run.
"""

import argparse
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode

import cells
import outputs

# nbconvert's own template leaves out the alt text that a picture's metadata holds.
TEMPLATE = """\
{% extends 'lab/index.html.j2' %}
{% block data_png scoped %}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
     alt="{{ output | get_metadata('alt', 'image/png') | escape_html }}">
</div>
{% endblock data_png %}
"""


def run(notebook: NotebookNode, folder: Path, timeout=None, **kernel) -> str | None:
    """Run `notebook` in a new kernel that starts in `folder`, and keep its outputs there.
    Returns what went wrong at the first cell that fails, or None.

    timeout: seconds for a cell
    kernel:  how the kernel starts, env={...}
    """
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # of the kernel itself
        resources={"metadata": {"path": str(folder)}},
    )
    begun = []
    client.on_cell_start = lambda cell, cell_index: begun.append(cell_index)
    try:
        client.execute(**kernel)
    except (CellExecutionError, DeadKernelError, TimeoutError) as error:
        return f"cell {begun[-1]}:\n{error}"


def save(notebook: NotebookNode, path: Path) -> None:
    """Write the notebook and, beside it, a page of HTML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    html, _ = HTMLExporter(raw_template=TEMPLATE).from_notebook_node(notebook)
    path.with_suffix(".html").write_text(html, encoding="utf-8")


def main(arguments: list[str] | None = None, root: Path = cells.ROOT) -> None:
    parser = argparse.ArgumentParser(description="Run the notebooks of the course.")
    parser.add_argument("numbers", nargs="*", help="02 03 ...; default: all")
    parser.add_argument("--in-place", action="store_true", help="record outputs anew")
    options = parser.parse_args(arguments)
    paths = cells.asked_for(options.numbers, root)
    for count, path in enumerate(paths, 1):
        print(f"[{count}/{len(paths)}] {path.name} ...", end=" ", flush=True)
        start, notebook = time.perf_counter(), cells.read(path)
        fault = run(notebook, path.parent)
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
        outputs.clean(notebook)
        if not options.in_place:
            save(notebook, root / "build" / "course" / path.name)
        elif not fault:
            nbformat.write(notebook, path)
        if fault:
            sys.exit(f"\n{path.name}, {fault}")


if __name__ == "__main__":
    main()

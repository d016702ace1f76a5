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


def run(path: Path) -> NotebookNode:
    """Run the notebook at `path` from its own folder, in a new kernel.

    Returns it with its new outputs. Raises CellFailed at the first cell that fails.
    """
    notebook = cells.read(path)
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # of the kernel itself
        resources={"metadata": {"path": str(path.parent)}},
    )
    reached = []
    client.on_cell_start = lambda cell, cell_index: reached.append(cell_index)
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        raise CellFailed(reached[-1], str(error), notebook) from None
    outputs.clean(notebook)
    return notebook


class CellFailed(RuntimeError):
    """A cell raised, or took the kernel with it. `notebook` holds what ran so far."""

    def __init__(self, index: int, traceback: str, notebook: NotebookNode) -> None:
        super().__init__(f"cell {index}:\n{traceback}")
        self.notebook = notebook


def save(notebook: NotebookNode, path: Path) -> None:
    """Write the notebook and, beside it, a page of HTML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    html, _ = HTMLExporter(raw_template=TEMPLATE).from_notebook_node(notebook)
    path.with_suffix(".html").write_text(html, encoding="utf-8")


def course(paths: list[Path], build: Path, in_place: bool) -> int:
    """Run `paths` in order, a line of progress each. Returns the exit status."""
    for count, path in enumerate(paths, 1):
        print(f"[{count}/{len(paths)}] {path.name} ...", end=" ", flush=True)
        start = time.perf_counter()
        try:
            notebook = run(path)
        except CellFailed as error:
            print(f"failed after {time.perf_counter() - start:.0f} s")
            print(f"\n{path.name}, {error}", file=sys.stderr)
            if not in_place:
                save(error.notebook, build / path.name)
            return 1
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
        if in_place:
            nbformat.write(notebook, path)
        else:
            save(notebook, build / path.name)
    return 0


def main(arguments: list[str] | None = None, root: Path = cells.ROOT) -> int:
    parser = argparse.ArgumentParser(description="Run the notebooks of the course.")
    parser.add_argument("numbers", nargs="*", help="02 03 ...; default: all")
    parser.add_argument("--in-place", action="store_true", help="record outputs anew")
    options = parser.parse_args(arguments)
    paths = cells.notebooks(root)
    known = [path.name[:2] for path in paths]
    if unknown := [n for n in options.numbers if n not in known]:
        parser.error(f"no notebook {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [p for p in paths if p.name[:2] in (options.numbers or known)]
    return course(chosen, root / "build" / "course", options.in_place)


if __name__ == "__main__":
    sys.exit(main())

"""Rules for stored outputs, and the cleaning that a recording needs to meet them."""

import re
from collections.abc import Iterator

from nbformat import NotebookNode

# Folders of the machine that made the outputs.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w./<])/(?:home|root|tmp|work|Users|content|opt|usr|var)/\w|\b[A-Z]:\\\w"
)
# The call that prints the device banner.
STARTS = re.compile(r"(?<![\w.])start\(")
# What tqdm leaves: "loss 1.9:  40%|████  | 24/60 [00:01<00:02, 15.2it/s]", over and over.
PROGRESS_BAR = re.compile(r"\d+%\|.*\|")


def clean(notebook: NotebookNode) -> None:
    """Drop from a fresh run what changes from run to run: timings, progress bars."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = without_bars(output.text)
            cell.outputs = [out for out in cell.outputs if out.get("text") != ""]


def without_bars(text: str) -> str:
    """What a stream says beside its progress bars."""
    pieces = re.findall(r"\r*[^\r\n]*\n?", text)
    return "".join(piece for piece in pieces if not PROGRESS_BAR.search(piece))


def ran_in_order(page) -> Iterator[str]:
    counts = [cell.execution_count for _, cell in page.code]
    if counts != list(range(1, len(counts) + 1)):
        yield f"code cells are numbered {counts}, not 1 to {len(counts)}: record it"
    for index, cell in page.code:
        if "execution" in cell.metadata:
            yield f"cell {index}: stores execution timings"
        if STARTS.search(cell.source) and "preset" not in shown_text(cell):
            yield f"cell {index}: start(...) stores no banner: record it"


def has_clean_outputs(page) -> Iterator[str]:
    for index, cell in page.code:
        if any(out.output_type == "error" for out in cell.outputs):
            yield f"cell {index}: stores an error"
        if any(out.get("name") == "stderr" for out in cell.outputs):
            yield f"cell {index}: stores stderr, a warning perhaps"
        if PROGRESS_BAR.search(shown_text(cell)):
            yield f"cell {index}: stores a progress bar"
        if path := ABSOLUTE_PATH.search(shown_text(cell)):
            yield f"cell {index}: its output holds an absolute path, {path[0]}..."


def has_pictures_for_all(page) -> Iterator[str]:
    if (size := page.path.stat().st_size) > 1_500_000:
        yield f"the file has {size} bytes, more than 1500000"
    for index, cell in page.code:
        for output in cell.outputs:
            data = output.get("data", {})
            other = {m for m in data if m.startswith("image/")} - {"image/png"}
            # Of HTML with a picture, a slider's, the PNG is what shows without scripts.
            in_html = "<img" in "".join(data.get("text/html", ""))
            if other or in_html and "image/png" not in data:
                yield f"cell {index}: shows a picture that is not a PNG output"
            if "image/png" not in data:
                continue
            if not output.metadata.get("image/png", {}).get("alt", "").strip():
                yield f"cell {index}: a picture lacks alt text: plots.show(fig, alt)"
            after = page.cells[index + 1 : index + 2]
            if not after or not re.search(r"^\*Figure: .+\*$", after[0].source, re.M):
                yield f"cell {index}: the next cell lacks its caption, *Figure: ...*"


def shown_text(cell: NotebookNode) -> str:
    """All text among a cell's outputs: streams and results."""
    texts = [output.get("text", "") for output in cell.outputs]
    for output in cell.outputs:
        data = output.get("data", {})
        texts += [str(data[kind]) for kind in data if not kind.startswith("image/")]
    return "\n".join(texts)


RULES = [ran_in_order, has_clean_outputs, has_pictures_for_all]

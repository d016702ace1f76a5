"""The course's notebooks, run on this device: how far each gets, and in what time.

Six run side by side, so their seconds are of a machine that is shared. They find each
other's trained models in one folder, which begins empty.
"""

import asyncio
import importlib.util
import os
import tempfile
import time
from pathlib import Path

from attnres_ref.training.presets import current

ROOT = Path(__file__).parents[4]
NEEDED = ("nbclient", "nbformat", "ipykernel")
# First those that need a GPU or are short, then those that train most.
ORDER = dict(
    cuda=["09", "08", "00", "10", "12", "03", "02", "01", "11", "06", "07", "05", "04"],
    cpu=["10"],
)
AT_ONCE = 6
LIMIT_S = dict(cuda=60, cpu=500)           # of one notebook
TOTAL_S = dict(cuda=80, cpu=550)           # of all: within the stage's own limit
START_S = 10                               # with less time left none is begun
LARGEST_BYTES = 2_000_000                  # of an executed copy that is kept


def measure(record, device) -> None:
    """A row for each notebook as soon as it ends, fails or is cut."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    paths = {path.name[:2]: path for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    if missing or not paths:
        what = ", ".join(missing) or "notebooks, which an installed package does not carry"
        record.add(missing=f"{what}; pip install {' '.join(NEEDED)}")
        return
    if device.type == "cpu":
        os.environ["ATTNRES_PRESET"] = "ci"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Their kernels inherit these names; Jupyter may find no home folder to write to.
        for name in ("ATTNRES_CACHE_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            os.environ[name] = folder
        asyncio.run(run_all([paths[number] for number in ORDER[device.type]], record,
                            LIMIT_S[device.type], TOTAL_S[device.type]))


async def run_all(paths: list[Path], record, limit_s: float, total_s: float) -> None:
    """Run notebooks in this order, AT_ONCE side by side, each for at most limit_s seconds
    and all of them for at most total_s."""
    end, places = time.monotonic() + total_s, asyncio.Semaphore(AT_ONCE)

    async def in_its_turn(path: Path) -> None:
        async with places:
            left = min(limit_s, end - time.monotonic())
            executed = record.path.with_name("executed") / path.name
            record.add(notebook=path.name[:2], preset=current().name,
                       **await run(path, left, executed))

    await asyncio.gather(*map(in_its_turn, paths))


async def run(path: Path, limit_s: float, executed: Path) -> dict:
    """One notebook in a kernel of its own: {outcome, cells that ran, of how many, seconds}.
    A small executed copy is left at `executed`."""
    import nbformat  # these two are not everywhere that the benchmark runs
    from nbclient import NotebookClient

    notebook, begun, ran = nbformat.read(path, as_version=4), [], []
    of = sum(cell.cell_type == "code" for cell in notebook.cells)
    if limit_s < START_S:
        return dict(outcome="not begun, no time was left", cells=0, of=of, seconds=0.0)
    # Without a kernel of this name in the system, Jupyter takes this very Python.
    client = NotebookClient(
        notebook, kernel_name="python3", shutdown_kernel="immediate",
        resources=dict(metadata=dict(path=str(path.parent))),
        extra_arguments=["--log-level=ERROR"],
    )
    client.on_cell_execute = lambda cell, cell_index: begun.append(cell_index)
    client.on_cell_executed = lambda cell, cell_index, execute_reply: ran.append(
        execute_reply["content"]["status"])
    began, timer = time.monotonic(), asyncio.timeout(limit_s)
    outcome = "done"
    try:
        async with timer:
            await client.async_execute()
    except Exception as error:             # a cell's, a dead kernel, or the time is up
        at, name = begun[-1] if begun else "before the first", type(error).__name__
        said = getattr(error, "evalue", str(error))
        outcome = f"cell {at}: {getattr(error, 'ename', name)}: {said}"[:300]
        if timer.expired():
            outcome = f"cut after {limit_s:.0f} s in cell {at}"
    seconds = round(time.monotonic() - began, 1)
    content = nbformat.writes(notebook)
    if len(content) < LARGEST_BYTES:
        executed.parent.mkdir(exist_ok=True)
        executed.write_text(content, encoding="utf-8", newline="\n")
    return dict(outcome=outcome, cells=ran.count("ok"), of=of, seconds=seconds)

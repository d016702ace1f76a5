"""What the cells of a notebook call: the banner, trained models, recorded runs."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from attnres_ref.training import Run, half_precision, train
from attnres_ref.training.presets import Preset, current
from attnres_ref.training.provenance import device_name

# A run depends on the core and on the layers and streams that it may be built of.
TRAINED_CODE = ("*.py", "training/*.py", "hybrid/*.py")
ROOT = Path(__file__).resolve().parents[1]


def start(minutes: Mapping[str, float] | None = None) -> Preset:
    """Print one line about the device and the preset in force, and return the preset.

    `minutes` says how long the notebook takes, by name of preset.
    """
    preset = current()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = half_precision(device) or torch.float32
    parts = [
        device_name(device),
        f"torch {torch.__version__}",
        str(dtype).removeprefix("torch."),
        f"preset {preset.name}",
    ]
    if minutes and preset.name in minutes:
        parts.append(f"about {minutes[preset.name]:g} min")
    print(" | ".join(parts))
    return preset


def trained(preset: Preset, residual: str, corpus, **changes) -> Run:
    """A model of the preset's size, trained on `corpus` with the preset's recipe.

    Trained here only if no notebook has left it in the cache; an interrupted run
    goes on. Whoever edits the model's code gets a new run. `changes` override fields
    of LMConfig.
    """
    model, recipe = preset.lm(residual, **changes), preset.training()
    identity = json.dumps([asdict(model), asdict(recipe), corpus.fingerprint])
    here = Path(__file__).parent
    files = sorted(path for pattern in TRAINED_CODE for path in here.glob(pattern))
    code = [path.read_text(encoding="utf-8") for path in files]
    key = hashlib.sha256("".join([identity, *code]).encode()).hexdigest()[:10]
    folder = cache_dir() / f"{residual}-{key}"
    return train(model, recipe, corpus, checkpoint_dir=folder, resume=True)


def recorded(name: str) -> dict:
    """The recorded run notebooks/recorded/`name`.json: seeds, device, commit, results.

    Raises FileNotFoundError that lists the runs there are.
    """
    places = Path(), Path("notebooks"), ROOT / "notebooks"
    folders = [place / "recorded" for place in places]
    for folder in folders:
        path = folder / f"{name}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    there = sorted({path.stem for folder in folders for path in folder.glob("*.json")})
    raise FileNotFoundError(
        f"no recorded run {name!r}; there are: {', '.join(there) or 'none'}. Run the "
        "notebook from its own folder, notebooks/, in a checkout of the course"
    )


def cache_dir() -> Path:
    """The folder for checkpoints that notebooks share, created if need be.

    It is $ATTNRES_CACHE_DIR, else attnres/checkpoints in $XDG_CACHE_HOME, if that is an
    absolute path, else in ~/.cache. Raises OSError if it cannot be created or written.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    cache = cache if os.path.isabs(os.path.expanduser(cache)) else "~/.cache"
    chosen = os.environ.get("ATTNRES_CACHE_DIR", "").strip()
    folder = Path(os.path.expanduser(chosen or f"{cache}/attnres/checkpoints"))
    try:
        if (chosen or cache).startswith("~") and not folder.is_absolute():
            raise OSError(0, "no home folder is known")
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(
            f"cannot create the folder for checkpoints {folder} ({error.strerror}): "
            "set ATTNRES_CACHE_DIR to one that you can write"
        ) from None
    return folder

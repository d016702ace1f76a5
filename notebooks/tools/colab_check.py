"""Run the notebooks as on Colab: its versions, an empty folder, the bootstrap cell.

    make colab-check                                     # all of them
    build/colab/python3/bin/python notebooks/tools/colab_check.py 02 03

Run it with the Python of an environment that holds Colab's packages and not the course
(`make colab-check` builds one from colab-runtime.txt). Each notebook starts in a new,
empty folder with a new home, as in a new runtime, in preset ci and without a GPU. The
bootstrap cell clones the course from a public address; git is told to find there what
lies in this checkout, uncommitted changes included, and nothing on the network. A
notebook fails if a cell fails, or if it changes any installed package, torch above all.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import cells
import course
import links

SITE = Path(sysconfig.get_path("purelib"))
# The reader's own settings, which a new runtime does not have.
OURS = ("ATTNRES_", "GIT_", "IPYTHON", "JUPYTER", "PYTHON", "XDG_")


def installed(site: Path = SITE) -> set[tuple[str, int]]:
    """Each distribution of a site-packages folder, by name and version, and when it was
    installed: installing the same version once more is a change, too."""
    records = site.glob("*.dist-info/RECORD")
    return {(path.parent.stem, path.stat().st_mtime_ns) for path in records}


def publish(root: Path, target: Path) -> Path:
    """Commit the working tree at `root`, as it is, to a new repository at `target`."""
    listed = ["git", "-C", root, "ls-files", "-z", "-co", "--exclude-standard"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    for name in names.strip("\0").split("\0"):
        if (root / name).is_file():  # a deleted file is still listed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, target / name)
    author = ["-c", "user.name=canary", "-c", "user.email=canary@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "As it is"]):
        subprocess.run(["git", "-C", target, *command], check=True)
    return target


def environment(home: Path, published: Path, repo: str) -> dict[str, str]:
    """A new runtime's variables, where git finds `published` at the public address."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    return kept | {
        "HOME": str(home),
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), kept["PATH"]]),
        "COLAB_RELEASE_TAG": "canary",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else the old kernel's debugger warns
        "MPLCONFIGDIR": str(published.with_name("matplotlib")),  # fonts are listed once
        "ATTNRES_PRESET": "ci",
        "CUDA_VISIBLE_DEVICES": "",
        "GIT_ALLOW_PROTOCOL": "file",  # nothing from the network
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{published.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{repo}",
    }


def run(path: Path, folder: Path, published: Path, repo: str) -> list[str]:
    """Run the notebook at `path` in a new runtime below `folder`; what went wrong."""
    home, content = folder / "root", folder / "content"
    home.mkdir(parents=True)
    (content / "sample_data").mkdir(parents=True)
    before, env = installed(), environment(home, published, repo)
    fault = course.run(cells.read(path), content, timeout=600, env=env)
    if not fault and not (content / "course" / "attnres_ref").is_dir():
        fault = "the bootstrap cell has not fetched the course"
    changed = sorted({name for name, _ in before ^ installed()})
    faults = [fault] if fault else []
    return faults + [f"the notebook changed the package {name}" for name in changed]


def main(arguments: list[str] | None = None, root: Path = cells.ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", help="02 03 ...; default: all")
    numbers = parser.parse_args(arguments).numbers
    cells.asked_for(numbers, root)     # says what there is not, before the work
    if any("attnres" in name for name, _ in installed()):
        parser.error("the course is installed here; on Colab it is not: make colab-check")

    failed, repo = [], "canary/course"  # also where no public address is set
    with tempfile.TemporaryDirectory(prefix="colab-") as temporary:
        published, before = publish(root, Path(temporary, "published")), installed()
        for path, text in links.restamped_files(repo, published).items():
            path.write_text(text, encoding="utf-8")
        paths = cells.asked_for(numbers, published)
        for count, path in enumerate(paths, 1):
            print(f"[{count}/{len(paths)}] {path.name} ...", end=" ", flush=True)
            faults = run(path, Path(temporary, path.stem), published, repo)
            print(*faults or ["runs, no package changed"], sep="\n", flush=True)
            failed += [path.name] if faults else []
            if installed() != before:  # the next make builds the environment anew
                Path(sys.prefix, ".installed").unlink(missing_ok=True)
    print(f"\n{len(paths) - len(failed)} passed, {len(failed)} failed", *failed)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

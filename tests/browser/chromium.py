"""The system's Chromium. As a script: says so where there is none."""

import shutil
import sys

NAMES = ["chromium", "chromium-browser", "google-chrome"]


def find() -> str:
    """Its path. Ends the program with a sentence where there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    sys.exit(
        "these tests drive the system's Chromium, and there is none. On Debian: "
        "sudo apt-get install chromium; on macOS: brew install --cask chromium"
    )


if __name__ == "__main__":
    find()

"""The system's Chromium; without one, this ends the program with a sentence."""

import shutil
import sys

NAMES = ["chromium", "chromium-browser", "google-chrome"]
PATH = next(filter(None, map(shutil.which, NAMES)), None)
if PATH is None:
    sys.exit(
        "these tests drive the system's Chromium, and there is none. On Debian: "
        "sudo apt-get install chromium; on macOS: brew install --cask chromium"
    )

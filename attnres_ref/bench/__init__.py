"""What it costs on this machine: `python -m attnres_ref.bench`."""

"""Looking at trained models and recorded runs: what the notebooks measure."""

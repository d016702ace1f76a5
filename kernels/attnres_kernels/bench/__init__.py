"""The kernels on one GPU, beside others: `python -m attnres_kernels.bench`."""

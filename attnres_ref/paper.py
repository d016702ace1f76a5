"""Numbers of the paper, Attention Residuals (arXiv 2603.15031), to stand beside ours."""

# Table 4: validation loss of the 436M model (32 layers), by our names. The window is the
# 8 latest outputs and the embedding, Block has S = 4, multihead 16 heads.
TABLE_4 = {
    "prenorm": 1.766,
    "denseformer": 1.767,
    "mhc": 1.747,
    "full": 1.737,
    "input_query": 1.731,
    "static": 1.749,
    "sigmoid": 1.741,
    "raw_keys": 1.743,
    "window": 1.764,
    "block": 1.746,
    "multihead": 1.752,
    "block_raw_keys": 1.750,
}


def delta(residual: str, baseline: str) -> float | None:
    """Table 4's loss of `residual` minus that of `baseline`; None for one not in it."""
    if residual not in TABLE_4:
        return None
    return round(TABLE_4[residual] - TABLE_4[baseline], 3)

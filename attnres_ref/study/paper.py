"""Numbers of *Attention Residuals* (Kimi Team, arXiv 2603.15031) that ours stand beside:
validation losses of their models, and benchmark scores."""

# Table 2: parameters active per token, tokens seen, and the final losses.
TABLE_2 = {
    "parameters": (194e6, 241e6, 296e6, 436e6, 528e6),
    "tokens": (38.7e9, 45.4e9, 62.1e9, 87.9e9, 119.0e9),
    "prenorm": (1.931, 1.895, 1.829, 1.766, 1.719),
    "block": (1.909, 1.875, 1.809, 1.746, 1.693),
    "full": (1.899, 1.874, 1.804, 1.737, 1.692),
    "mhc": (1.906, 1.869, 1.807, 1.747, 1.694),
}

# The paper's fits to Table 2: loss = A C^-a, as (A, a), with C in PFLOP/s-days.
FITS = {"prenorm": (1.891, 0.057), "block": (1.870, 0.058), "full": (1.865, 0.057)}
COMPUTE = 5.6                          # PFLOP/s-days at which the fits are compared ...
MULTIPLIER = 1.25                      # ... and the compute that Block is worth there

# Fig. 7, fixed compute of 6.5e19 FLOPs: the best d_model / L_b (L_b pairs of layers) and
# the loss there; the gain of AttnRes over all 25 shapes, smallest and largest.
FIG_7 = {"prenorm": (60, 1.847), "full": (45, 1.802)}
FIG_7_GAINS = (0.019, 0.063)

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

# Table 1: what a layer moves per token, in units of d, with L = 128, N = 8 and S = 16.
TABLE_1 = {"prenorm": 3, "block": 5.5, "full": 24, "mhc": 34}
# Sec. 4.1 and 4.2: at most so much longer, by fraction.
OVERHEADS = {"pipelines": 0.04, "inference": 0.02}
# Sec. 4.2, GB of block representations for 128K tokens: whole; over 8 devices; in chunks
# of 16K tokens too.
PREFILL = (15, 1.9, 0.3)

# Kimi Linear, 48B parameters of which 3B are active: scores with PreNorm and with Block
# (S = 6) on the benchmarks that the paper reports.
DOWNSTREAM = {
    "MMLU": (73.5, 74.6),
    "MMLU-Pro": (52.2, 52.2),
    "GPQA-Diamond": (36.9, 44.4),
    "BBH": (76.3, 78.0),
    "ARC-C": (64.6, 65.7),
    "HellaSwag": (83.2, 83.4),
    "TriviaQA": (69.9, 71.8),
    "GSM8K": (81.7, 82.4),
    "MGSM": (64.9, 66.1),
    "Math": (53.5, 57.1),
    "CMath": (84.7, 85.1),
    "HumanEval": (59.1, 62.2),
    "MBPP": (72.0, 73.9),
    "CMMLU": (82.0, 82.9),
    "C-Eval": (79.6, 82.5),
}


def delta(residual: str, baseline: str) -> float | None:
    """Table 4's loss of `residual` minus that of `baseline`; None if one is not in it."""
    if not {residual, baseline} <= TABLE_4.keys():
        return None
    return round(TABLE_4[residual] - TABLE_4[baseline], 3)


def largest_delta(residual: str, baseline: str) -> float:
    """The same of Table 2's largest models, which has PreNorm, Block, Full and mHC."""
    return round(TABLE_2[residual][-1] - TABLE_2[baseline][-1], 3)

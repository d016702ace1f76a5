"""Numbers of *Attention Residuals* (Kimi Team, arXiv 2603.15031) that ours stand beside.
Losses are validation losses in nats per token; the models are theirs, not ours."""

# Table 2. Parameters that are active per token and tokens seen, then the final losses.
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

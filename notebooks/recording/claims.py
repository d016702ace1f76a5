"""The rows of the ledger: claims of the paper, each judged by recorded runs."""

from collections.abc import Iterator
from operator import itemgetter
from statistics import mean

import torch

from attnres_ref import LM, LMConfig
from attnres_ref.inference import io_counts
from attnres_ref.notebook import recorded
from attnres_ref.plots import STYLES
from attnres_ref.study import mixing, paper
from attnres_ref.study.compare import final_losses, select
from attnres_ref.study.probes import unevenness
from judging import FAILS, HOLDS, Claim, between, gaps, judged
from sweeps import LR

loss = itemgetter("val_loss")


def growth(run: dict) -> float:
    """How much larger what late layers read is than what early ones do, when trained."""
    read = run["observed"][-1][1]["input_rms"]
    return mean(read[-4:]) / mean(read[2:6])


def gradient_spread(run: dict) -> float:
    """Coefficient of variation of the layers' gradient norms, when trained."""
    return unevenness(run["observed"][-1][1]["gradient_norm"])[1]


def gains() -> Iterator[Claim]:
    """Notebooks 02 and 03."""
    for corpus, runs in recorded("residuals").items():
        losses = final_losses(runs)
        for ours, other in (("block", "prenorm"), ("full", "prenorm"), ("full", "block")):
            claim = f"{STYLES[ours][0]} below {STYLES[other][0]} (Table 2), on {corpus}"
            yield judged(claim, "difference of losses", gaps(losses[ours], losses[other]))
    losses = final_losses(recorded("start")["python_sources"])
    for ours in ("block", "full"):
        claim = f"{STYLES[ours][0]} below PreNorm, both from a scaled start (notebook 04)"
        yield judged(claim, "difference of losses", gaps(losses[ours], losses["prenorm"]))


def dynamics() -> Iterator[Claim]:
    """Notebook 04: the trained models of the ablation sweep."""
    prenorm, block = study("prenorm"), study("block")
    norms = [run["observed"][-1][1]["gradient_norm"] for run in prenorm]
    yield judged(
        "PreNorm's hidden state grows with depth (sec. 2, Fig. 5)",
        "late over early reads", [*map(growth, prenorm)], below=False, limit=1.0,
    )
    yield judged(
        "Block's stays bounded (Fig. 5)", "growth less PreNorm's",
        between(growth, block, prenorm),
    )
    yield judged(
        "PreNorm's gradients are largest in early layers (Fig. 5)",
        "first over last four layers", [mean(n[:4]) / mean(n[-4:]) for n in norms],
        below=False, limit=1.0,
    )
    yield judged(
        "Block's gradients are more even (Fig. 5)",
        "coefficient of variation less PreNorm's", between(gradient_spread, block, prenorm),
    )


def study(residual: str, sweep: str = "ablations", **fields) -> list[dict]:
    """The recorded runs of a residual at the study's usual size."""
    fields = dict(block_size=4, scaled_init=False) | fields
    fields |= dict(window=4) if residual == "window" else {}
    return select(recorded(sweep)["python_sources"], residual=residual, **fields)


def ablations() -> Iterator[Claim]:
    """Notebook 05: is each row of Table 4 on the paper's side of its reference?"""
    def row(ours, other, runs=study, where=""):
        claimed = paper.delta(ours, other)
        return judged(
            f"{STYLES[ours][0]} - {STYLES[other][0]}: {claimed:+.3f} (Table 4){where}", "",
            between(loss, runs(ours), runs(other)), below=claimed < 0,
        )

    def gentle(residual):
        return study(residual, "rates" if residual == "full" else "gentler", lr=LR / 4)

    for residual in paper.TABLE_4:
        if residual not in ("prenorm", "full"):
            yield row(residual, "block" if residual == "block_raw_keys" else "full")
    for residual in ("input_query", "window"):
        yield row(residual, "full", gentle, f", at the rate {LR / 4:g}")
    yield row("mhc", "prenorm")
    yield judged(
        "one block (S = L) is worse than S = 4 (Fig. 6)", "difference",
        between(loss, study("block", block_size=16), study("block")), below=False,
    )


def matrices() -> Iterator[Claim]:
    """Notebook 07."""
    runs = recorded("mixing")["python_sources"]

    def ranks(residual, block_size=4):
        alike = select(runs, residual=residual, block_size=block_size)
        return sum((run["rank"] for run in alike), [])

    def span(ranks):
        return " to ".join(map(str, sorted({min(ranks), max(ranks)})))

    for names, rank, claim in (
        (("prenorm", "highway"), 1, "PreNorm and Highway are 1-semiseparable"),
        (("mhc",), 4, "mHC with 4 streams is 4-semiseparable"),
    ):
        ours = sum((ranks(name) for name in names), [])
        yield Claim(
            f"{claim} (sec. 6.2)", f"rank {span(ours)}", f"{len(ours)} tokens",
            HOLDS if set(ours) == {rank} else FAILS,
        )
    L = runs[0]["model"]["n_layers"]
    by_size = {size: ranks("block", size) for size in (2, 4, 8, 16)}
    inside = all(L // S <= r <= L // S + S for S in by_size for r in by_size[S])
    yield Claim(
        "Block's rank is between N and N + S (sec. 6.2)",
        ", ".join(f"{span(r)} for N = {L // S}, S = {S}" for S, r in by_size.items()),
        "at most N + 1, see notebook 07",
        HOLDS if inside else "does not, by our definition",
    )
    yield Claim(
        "Full's rank is up to L (sec. 6.2)", f"rank {span(ranks('full'))} for L = {L}",
        "no matrix exceeds (L + 2) // 2", "holds, as an upper bound",
    )

    seeds = [run["reads"] for run in select(runs, residual="full")]
    weights = [mixing.relative(reads[2:]) for reads in seeds]

    def entropy(reads):
        return mean(read["spread"] for read in reads)

    yield judged(
        "the newest source dominates (Fig. 8)", "weight over plain mean",
        [mean(row[-1] for row in rows) for rows in weights], below=False, limit=1.0,
    )
    yield judged(
        "the embedding keeps its weight (Fig. 8)", "weight over plain mean, later half",
        [mean(row[0] for row in rows[len(rows) // 2:]) for rows in weights],
        below=False, limit=1.0,
    )
    yield judged(
        "reads before MLPs are sharper than before attention (Fig. 8)",
        "entropy, MLP less attention",
        [entropy(reads[3:-1:2]) - entropy(reads[2:-1:2]) for reads in seeds],
    )


def costs() -> Iterator[Claim]:
    """Notebooks 02 and 08."""
    def moved(residual, group):
        size = dict(vocab_size=8, d_model=4, n_layers=128, n_heads=1, context=4)
        model = LM(LMConfig(residual=residual, block_size=16, **size)).double()
        rows = io_counts.count_two_phase(model, torch.tensor([[1]]), group)
        return sum(r.reads + r.writes for r in rows if r.layer < 128) / (128 * 4)

    for residual, formula, theirs in (("block", "N/S + 5", 5.5), ("full", "S + N", 24)):
        count = moved(residual, 16)
        yield Claim(
            f"{STYLES[residual][0]} moves {formula} = {theirs} d per layer (Table 1)",
            f"{count:.3g} d, counted in two phases", "exact",
            HOLDS if abs(count - theirs) <= 1 else FAILS,
        )
    block = recorded("bench_inference")["rows"]["Block two-phase"]
    training = recorded("bench")["rows"]["Block S=4"]["time_ratio"]
    for what, ratio in (
        ("inference latency below 2 % (sec. 4.2): decoding", block["decode_time_ratio"]),
        ("the same: prefill", block["prefill_time_ratio"]),
        ("negligible training overhead without pipelines (sec. 4.1)", training),
    ):
        yield Claim(
            what, f"{100 * (ratio - 1):.0f} % over PreNorm, eager PyTorch on a CPU",
            "median of 20 rounds or more", HOLDS if ratio < 1.02 else FAILS,
        )


PARTS = (gains, dynamics, ablations, matrices, costs)

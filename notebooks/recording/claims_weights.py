"""Rows about depth mixing (sec. 6.2) and where the weights go (Fig. 8): notebook 07."""

from collections.abc import Iterator
from statistics import mean

from attnres_ref.notebook import recorded
from attnres_ref.study import mixing
from attnres_ref.study.compare import select
from judging import FAILS, HOLDS, NONE, Claim, judged, not_tested
from plan import CORPUS

FAR = 4                                # layers back: beyond the usual block of S = 4
STRONG = 1.5                           # times the plain mean, which is an untrained weight


def matrices() -> Iterator[Claim]:
    runs = recorded("mixing")[CORPUS]

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
            f"{claim} (sec. 6.2)", f"rank {rank}", f"rank {span(ours)}",
            f"{len(ours)} tokens", HOLDS if set(ours) == {rank} else FAILS,
        )
    L = runs[0]["model"]["n_layers"]
    by_size = {size: ranks("block", size) for size in (2, 4, 8, 16)}
    inside = all(L // S <= r <= L // S + S for S in by_size for r in by_size[S])
    yield Claim(
        "Block's rank is between N and N + S (sec. 6.2)", "N to N + S",
        ", ".join(f"{span(r)} for N = {L // S}, S = {S}" for S, r in by_size.items()),
        "see notebook 07",
        HOLDS if inside else f"{NONE}: by our definition no rank exceeds N + 1",
    )
    yield Claim(
        "Full's rank is up to L (sec. 6.2)", "up to L",
        f"rank {span(ranks('full'))} for L = {L}", "no matrix exceeds (L + 2) // 2",
        HOLDS if max(ranks("full")) <= L else FAILS,
    )


def patterns() -> Iterator[Claim]:
    """Of the trained models of the ablation sweep; an untrained one has the plain mean
    everywhere and passes none of these rows."""
    runs = recorded("mixing")[CORPUS]
    for residual in ("full", "block"):
        name = "Full:" if residual == "full" else "Block keeps it:"
        seeds = [run["reads"] for run in select(runs, residual=residual, block_size=4)]
        weights = [mixing.relative(reads[2:]) for reads in seeds]
        newest = [[row[-1] == max(row) for row in rows] for rows in weights]
        counts = ", ".join(f"{sum(row)}" for row in newest)
        yield judged(
            f"{name} reads attend most to the newest source (Fig. 8)",
            f"{counts} of {len(newest[0])} reads, a share of", [*map(mean, newest)],
            below=False, limit=0.5,
        )
        yield judged(
            f"{name} the embedding keeps its weight (Fig. 8)",
            "over the plain mean, later half:", [mean(later_embedding(w)) for w in weights],
            below=False, limit=1.0,
        )
        yield judged(
            f"{name} reads before MLPs are sharper than before attention (Fig. 8)",
            "entropy, MLP less attention",
            [entropy(reads[3:-1:2]) - entropy(reads[2:-1:2]) for reads in seeds],
        )
        if residual == "full":
            jumps = [sum(map(jumps_far, rows)) for rows in weights]
            yield Claim(
                "Full: some reads jump far back (Fig. 8)", "some",
                f"{', '.join(map(str, jumps))} of {len(weights[0])} reads give {STRONG:g} "
                f"times the mean to an output {FAR} or more before the newest",
                f"{len(jumps)} seeds", HOLDS if min(jumps) > 0 else FAILS,
            )
    yield not_tested("Some layers act as sinks over depth (Fig. 8)", "",
                     "the paper names no measure")


def later_embedding(rows) -> list[float]:
    return [row[0] for row in rows[len(rows) // 2:]]


def entropy(reads) -> float:
    return mean(read["spread"] for read in reads)


def jumps_far(row) -> bool:
    """Does a source between the embedding and the newest few have a large weight?"""
    return max(row[1:-FAR], default=0.0) >= STRONG

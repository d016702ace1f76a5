"""What the README says of the recorded runs, word for word, with the records' numbers.
tests/test_ledger.py looks for each line there, and for numbers that are in none."""

from collections.abc import Iterator
from statistics import mean, median

import claims
import claims_hybrid
import judging
from attnres_ref.notebook import recorded
from attnres_ref.pipeline.plan import Job
from attnres_ref.study import paper
from attnres_ref.study.compare import final_losses, paired_difference, select
from sweeps import LR

CORPORA = {"tinyshakespeare": "TinyShakespeare", "python_sources": "Python sources"}
WORDS = {2: "two", 3: "three", 5: "five", "CPU, 2 threads": "two CPU threads"}
# Numbers of the section that no record holds: repeated runs, targets, the paper's words.
NOT_RECORDED = (
    "may differ by 0.02",
    "our target of 1.05x",
)


def gap(ours, baseline) -> str:
    """Of two lists of final losses."""
    difference = paired_difference(ours, baseline)
    return f"{difference.mean:+.3f} +/- {difference.half_width:.3f}"


def losses(residual: str, **fields) -> list[float]:
    return [*map(claims.loss, claims.study(residual, **fields))]


def gains() -> Iterator[str]:
    run = recorded("residuals")["python_sources"][0]
    size = run["model"]
    yield (
        f"after {run['step']} steps of a {run['parameters'] / 1e6:.1f}M-parameter model "
        f"(d={size['d_model']}, L={size['n_layers']}, T={size['context']})"
    )
    for corpus, runs in recorded("residuals").items():
        found = final_losses(runs)
        means = [f"{mean(found[name]):.3f}" for name in ("prenorm", "block", "full")]
        gaps = [gap(found[name], found["prenorm"]) for name in ("block", "full")]
        yield "| " + " | ".join([CORPORA[corpus], *means, *gaps]) + " |"


def study() -> Iterator[str]:
    plain, scaled = (losses("prenorm", scaled_init=start) for start in (False, True))
    yield f"against PreNorm ({mean(plain):.3f})"
    yield f"against PreNorm, both from a scaled start ({mean(scaled):.3f})"
    for residual, name in (("block", "Block S=4"), ("full", "Full")):
        ours = losses(residual, sweep="start", scaled_init=True)
        yield f"| {name} | {gap(losses(residual), plain)} | {name} | {gap(ours, scaled)} |"
    for names, others in (
        ("LayerScale, ReZero", ("layerscale", "rezero")),
        ("DenseFormer, Highway", ("denseformer", "highway")),
        ("mHC (4 streams)", ("mhc",)),
    ):
        yield f"| {names} | {', '.join(gap(losses(other), plain) for other in others)} |"


def laws() -> Iterator[str]:
    runs = [run["model"] for run in recorded("scaling")["python_sources"]]
    sizes = sorted({6 * run["d_model"] ** 2 * run["n_layers"] for run in runs})
    _, worth, spread, _ = next(claims.laws())
    yield (
        f"Over {WORDS[len(sizes)]} sizes ({sizes[0] / 1e3:.0f} to {sizes[-1] / 1e3:.0f} "
        f"thousand parameters, two seeds) Block is worth {worth.split()[0]} PreNorm's "
        f"compute ({spread.partition(' (')[0]}; the paper: {paper.MULTIPLIER}x)"
    )


def costs() -> Iterator[str]:
    training, decoding = recorded("bench"), recorded("bench_inference")
    device = WORDS.get(training["device"], training["device"])
    yield f"batch 4, {device}, median of {training['rounds']} interleaved rounds"
    for name, case in (
        ("PreNorm", "PreNorm"), ("a GPT as usually written", "plain GPT"),
        ("Block S=4", "Block S=4"), ("Block S=4, chained", "Block S=4, chained"),
        ("Full", "Full"), ("Full, chained", "Full, chained"),
        ("Full, naive stacking", "Full, stacked"),
    ):
        row = training["rows"][case]
        yield f"| {name} | {row['time_ratio']:.2f}x | {row['saved_ratio']:.2f}x |"
    alone, compiled = recorded("bench_one_thread"), recorded("bench_compiled")
    assert alone["device"] == compiled["device"] == "CPU, 1 threads"
    for begins, record in (("On one thread", alone), ("compiled`)", compiled)):
        block, block_chained, full, full_chained = (
            f"{record['rows'][case]['time_ratio']:.2f}x"
            for name in ("Block S=4", "Full") for case in (name, f"{name}, chained")
        )
        yield (
            f"{begins} Block takes {block}, chained {block_chained}, and Full {full}, "
            f"chained {full_chained}"
        )
    size, device = decoding["size"], WORDS.get(decoding["device"], decoding["device"])
    ratios = {name: row["decode_time_ratio"] for name, row in decoding["rows"].items()}
    yield f"(L={size['n_layers']}, d={size['d_model']}, batch 1, {device},"
    yield (
        f"Block read layer by layer {ratios['Block layer-wise']:.2f}x, "
        f"Block by Algorithm 1 {ratios['Block two-phase']:.2f}x, "
        f"Full by Algorithm 1 {ratios['Full two-phase']:.2f}x"
    )


def traffic() -> Iterator[str]:
    record = recorded("traffic")
    totals = {row["stream"]: row["total"] for row in record["rows"]}
    scheduled = min(u for name, u in totals.items() if name.startswith("Full, two phases"))
    yield (
        f"one training step of Full with {record['layers']} layers moves "
        f"{totals['Full, kernels']:,} passes over a source"
    )
    yield f"and {scheduled} in two phases (`python -m attnres_kernels.traffic`)"


def pipelines() -> Iterator[str]:
    """The second is notebook 10's job, computed here by the simulator: its two overheads
    are in no record because they need none."""
    apart = [
        f"{median(row['seconds']) / row['simulated'] - 1:.1%}".replace("%", " %")
        for row in recorded("pipeline_paced")["rows"].values()
    ]
    yield f"real processes with paced links: {', '.join(apart)})"
    job = Job(
        n_ranks=8, n_virtual=2, n_layers=48, d_model=2304, parameters=3e9,
        n_microbatches=32, tokens=8192, flops=400e12, bandwidth=50e9,
    )
    naive, cached = (100 * job.overhead(6, mode) for mode in ("naive", "received"))
    yield (
        f"({job.n_ranks} ranks, {job.bandwidth / 1e9:.0f} GB/s links) simulated "
        f"communication adds {naive:.1f} % without the cache and {cached:.1f} % with it"
    )


def hybrids() -> Iterator[str]:
    found = []
    for sweep, lr, _ in claims_hybrid.RECIPES:
        runs = recorded(sweep)["python_sources"]
        of = final_losses([run for run in runs if run["train"]["lr"] == lr])
        found.append(gap(of["block"], of["prenorm"]))
    size = select(recorded("hybrid")["python_sources"], residual="block", lr=LR)[0]["model"]
    yield (
        f"{size['n_experts']} experts; d={size['d_model']}, L={size['n_layers']}, "
        f"S={size['block_size']}, three paired seeds)"
    )
    yield (
        f"PreNorm is {found[0]} at the rate chosen for the Transformer; at twice that "
        f"rate, which suits PreNorm slightly better here, {found[1]}, and from the scaled "
        f"start {found[2]}: cannot tell."
    )
    rows = recorded("bench_hybrid")["rows"]
    yield (
        f"A training step costs {rows['hybrid, Block S=6']['time_ratio']:.2f}x, and KDA in "
        f"chunks is {1 / rows['KDA, in chunks']['time_ratio']:.0f} times as fast"
    )


def puzzles() -> Iterator[str]:
    rows = [row for row in claims_hybrid.reasoning() if "multi-step" in row.claim]
    assert judging.HOLDS not in [row.verdict for row in rows]
    against = sum(row.verdict == judging.FAILS for row in rows)
    yield (
        "no interval over two or more steps shows a gain for Block or Full, and "
        f"{WORDS[against]} lie on PreNorm's side"
    )


def lines() -> list[str]:
    parts = (gains, study, laws, costs, traffic, pipelines, hybrids, puzzles)
    return [line for part in parts for line in part()]

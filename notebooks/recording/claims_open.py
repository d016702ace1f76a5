"""Rows that nothing here tests, so that a reader sees what is missing."""

from collections.abc import Iterator

from attnres_ref.plots import STYLES
from attnres_ref.study import paper
from judging import Claim, not_tested


def at_size() -> Iterator[Claim]:
    """Results that the paper has at a size that this course does not reach."""
    for name in ("mhc", "block"):
        pairs = zip(paper.TABLE_2["full"], paper.TABLE_2[name])
        below = [ours < other for ours, other in pairs]
        yield not_tested(f"Full is below {STYLES[name][0]} at size (Table 2)",
                         f"in {sum(below)} of {len(below)} sizes")


def scores() -> Iterator[Claim]:
    """Our hybrid and our puzzles are proxies: none of these benchmarks was run."""
    gained = {name: ours - other for name, (other, ours) in paper.DOWNSTREAM.items()}
    least, most = (end(gained, key=gained.get) for end in (min, max))
    better = sum(gain > 0 for gain in gained.values())
    yield not_tested(
        f"{better} of {len(gained)} downstream scores of Kimi Linear are better",
        f"{gained[least]:+.1f} ({least}) to {gained[most]:+.1f} ({most})",
        "only proxies, above",
    )

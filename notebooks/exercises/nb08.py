"""Checks of notebook 08, two-phase inference, and the schedules of its arena."""

import inspect
import math

import torch
import torch.nn.functional as F

from attnres_ref import attend_with_stats, depth_attention, merge
from exercises import arena, exercise, mutants


def split_example(scale=1.0):
    """Three queries [3, 8], and five sources [2, 4, 8] in two parts."""
    sources = [torch.randn(2, 4, 8, dtype=torch.float64) for _ in range(5)]
    queries = scale * torch.randn(3, 8, dtype=torch.float64)
    return queries, sources[:2], sources[2:]


@exercise("08.1")
def joined(join):
    queries, first, second = split_example()
    parts = attend_with_stats(queries, first), attend_with_stats(queries, second)
    o, m, l = join(*parts)
    whole = attend_with_stats(queries, [*first, *second])
    assert m.shape == whole[1].shape and torch.equal(m, whole[1]), (
        "m is not the largest score of both parts"
    )
    assert not torch.allclose(l, parts[0][2] + parts[1][2]), (
        "the sums are added as they are, yet each is relative to its own maximum: "
        "bring both to the same maximum first"
    )
    a, b = ((part[1] - m).exp() for part in parts)
    assert not torch.allclose(l, parts[0][2] / a + parts[1][2] / b), (
        "the scales are upside down: none may be above one"
    )
    assert torch.allclose(l, whole[2]), "l is not the sum over both parts"
    assert o.shape == whole[0].shape and torch.allclose(o, whole[0]), (
        "o is not the sum over both parts: it needs the same two scales as l, and "
        "no division"
    )
    sharp, first, second = split_example(scale=1e4)
    o, m, l = join(attend_with_stats(sharp, first), attend_with_stats(sharp, second))
    assert torch.isfinite(o).all() and torch.isfinite(l).all(), (
        "scores in the thousands overflow: no exponent may be above zero"
    )


@exercise("08.2")
def joined_with_nothing(join):
    queries, first, _ = split_example()
    part = attend_with_stats(queries, first)
    o, m, l = part
    nothing = torch.zeros_like(o), torch.full_like(m, -torch.inf), torch.zeros_like(l)
    for name, pair in (("second", (part, nothing)), ("first", (nothing, part))):
        found = join(*pair)
        assert all(map(torch.allclose, found, part)), (
            f"with nothing as the {name} part the result is not the other part"
        )
    o, m, l = join(nothing, nothing)
    assert not (o.isnan().any() or l.isnan().any() or m.isnan().any()), (
        "two empty parts give nan: what is -inf less -inf?"
    )
    assert (m == -torch.inf).all(), (
        "nothing joined with nothing has lost its maximum of -inf, and would be a source "
        "with a score in the next join"
    )
    assert (l == 0).all() and (o == 0).all(), "nothing joined with nothing is not nothing"
    mixed = [x.clone() for x in nothing]
    for ours, theirs in zip(mixed, part):
        ours[0] = theirs[0]                   # one query has sources, the others have none
    for found, expected in zip(join(tuple(mixed), nothing), mixed):
        assert torch.allclose(found, expected), (
            "whether a part is empty is decided for all at once, but some of its queries "
            "may have sources while others have none"
        )
    low = part[0], part[1] - 1e6, part[2]
    found = join(low, nothing)
    assert torch.allclose(found[2], part[2]) and torch.allclose(found[0], part[0]), (
        "scores of minus a million are taken for nothing: -inf is not just a large number"
    )


@exercise("08.3")
def mended_block(run_block):
    queries, sources = torch.randn(4, 8, dtype=torch.float64), split_example()[1]
    seen = []

    def layer(i):
        def f(h):
            seen.append(h)
            return (i + 2) * h.roll(1, -1).tanh()

        return f

    run_block(queries, sources, [layer(i) for i in range(4)])
    assert len(seen) == 4, f"{len(seen)} layers ran, not 4"
    outputs = [(i + 2) * h.roll(1, -1).tanh() for i, h in enumerate(seen)]
    expected = [depth_attention(queries[0], sources)]
    for i in range(1, 4):
        expected.append(depth_attention(queries[i], [*sources, sum(outputs[:i])]))
    with_zero = depth_attention(queries[0], [*sources, torch.zeros_like(sources[0])])
    assert not torch.allclose(seen[0], with_zero), (
        "the first layer still reads an empty partial sum: zeros score zero and take weight"
    )
    assert torch.allclose(seen[0], expected[0]), (
        "the first layer reads something else than what phase 1 has for it, normalised"
    )
    assert not torch.allclose(seen[1], depth_attention(queries[1], sources)), (
        "the partial sum is never read: from layer 1 of the block on it is a source"
    )
    own = [
        merge(
            tuple(x[i] for x in attend_with_stats(queries, sources)),
            tuple(x[0] for x in attend_with_stats(queries[:1], [sum(outputs[:i])])),
        )
        for i in range(1, 4)
    ]
    borrowed = [o / l.unsqueeze(-1) for o, _, l in own]
    assert not torch.allclose(seen[2], borrowed[1]), (
        "the partial sum is scored by the first layer's query, not by layer i's own"
    )
    for i in range(1, 4):
        assert torch.allclose(seen[i], expected[i]), (
            f"layer {i} of the block reads something else than its sources in Eq. 6"
        )


@exercise("08.4")
def batch_of_a_share(first_batch):
    found = first_batch(90.0, 3.0, 2.0, 0.25)
    assert found not in (12, 18), (
        "the share is one of all bytes, and the depth reads are among them"
    )
    assert found != 15, "every sequence of the batch brings its own keys and values as well"
    assert found == 30, (
        f"weights 90, cache 3, depth 2: at batch 30 a quarter of 240 bytes is depth; you "
        f"say {found}"
    )
    assert first_batch(90.0, 4.0, 2.0, 0.5) == math.inf, (
        "with twice as many bytes of cache as of depth the share stays below a third at "
        "any batch: return math.inf"
    )
    assert first_batch(90.0, 1.0, 1.0, 0.5) == math.inf, (
        "the share comes as close to a half as you like and never reaches it: return "
        "math.inf"
    )
    assert first_batch(91.0, 3.0, 2.0, 0.25) == 31, (
        "at batch 30 the share is still a little below, and there are no half sequences: "
        "round up"
    )


# --- the arena: Block AttnRes scheduled, all in one place, for a bug to be planted ------


class TwoPhases(mutants.Block):
    """Block AttnRes by Algorithm 1, in the form of mean and lse. Its parameters have the
    names of `mutants.Block`, which reads layer by layer."""

    def begin(self, embedding):
        self.folded = self.queries * (1 + self.queries_norm)          # [L + 1, d]
        return self.phase_one([embedding], 0)

    def scores(self, values, queries):
        return F.rms_norm(values, values.shape[-1:], eps=1e-5) @ queries.mT

    def phase_one(self, completed, first):
        values = torch.stack(completed)                               # [n, ..., d]
        logits = self.scores(values, self.folded[first : first + self.block_size])
        lse = logits.logsumexp(0)                                     # [..., S]
        means = torch.einsum("n...s,n...d->s...d", (logits - lse).exp(), values)
        return completed, None, first, means, lse

    def read(self, state, layer):
        completed, partial, first, means, lse = state
        i, query = layer - first, self.folded[layer]
        if partial is None:
            return means[i]
        score = self.scores(partial, query[None])                     # [..., 1]
        return torch.lerp(means[i], partial, (score - lse[..., i, None]).sigmoid())

    def write(self, state, layer, output):
        completed, partial, *results = state
        partial = output if partial is None else partial + output
        if (layer + 1) % self.block_size == 0:
            return self.phase_one([*completed, partial], layer + 1)
        return completed, partial, *results


class Planted(mutants.Mutant):
    """A schedule with one bug: the source of `right` with `new` for `old`."""

    @property
    def make(self) -> type:
        source, space = inspect.getsource(self.right), dict(globals())
        assert source.count(self.old) == 1, self.name
        exec(source.replace(self.old, self.new), space)
        return space[self.right.__name__]


def same_reads(make):
    """Every read equals the layer-wise one: L = 8, S = 4, random queries."""
    stream, right = make(8, 16, 4), mutants.Block(8, 16, 4)
    torch.nn.init.normal_(stream.queries)
    right.load_state_dict(stream.state_dict())
    v = torch.randn(9, 2, 16)
    for layer in range(9):
        expected, found = (
            x.read(arena.written(x, v[: layer + 1]), layer) for x in (right, stream)
        )
        assert torch.allclose(found, expected, atol=1e-5)


GIVEN = arena.oracle, arena.gradients_arrive, arena.old_state_stays, same_reads
SCHEDULES = tuple(Planted(TwoPhases, *words) for words in (
    ("borrowed query", "self.folded[layer]", "self.folded[first]",
     "the partial sum is scored by the query of the block's first layer",
     "whose query scores the partial sum?"),
    ("partial unread", "if partial is None:", "if True:",
     "phase 2 never happens", "do layers of one block read one another?"),
    ("upside down", "(score - lse[..., i, None])", "(lse[..., i, None] - score)",
     "the gate gives the partial sum the share of phase 1",
     "which of the two does a large score favour?"),
    ("sum in place", "partial + output", "partial.add_(output)",
     "a state that somebody has kept changes later", "is the old state as it was?"),
    ("no maximum", "logits.logsumexp(0)", "logits.exp().sum(0).log()",
     "the exponentials overflow where scores are large",
     "what becomes of scores in the hundreds?"),
    ("final read alone", "if partial is None:",
     "if partial is None or layer == self.n_layers:",
     "the final read forgets the sum of a short last block",
     "do all block sizes divide the number of layers?"),
    ("norm weight once", "self.scores(partial, query[None])",
     "self.scores(partial, self.queries[layer][None])",
     "phase 2 scores without the key norm weight",
     "which parameters are zero in all tests so far?"),
    ("folded for ever", "self.folded = self.queries * (1 + self.queries_norm)",
     "self.folded = getattr(self, 'folded', self.queries * (1 + self.queries_norm))",
     "queries are folded in the first pass and never again",
     "what happens between two passes of a model in training?"),
    ("lse detached", "lse = logits.logsumexp(0)", "lse = logits.logsumexp(0).detach()",
     "the queries' gradients lack what comes through the sum of phase 1",
     "values are right at every read; are gradients, in value?"),
))


@exercise("08.5")
def kills_the_schedules(my_tests):
    arena.assert_none_survives(arena.with_mine(GIVEN, my_tests), SCHEDULES)

"""Full and Block AttnRes with one planted bug each, for the arena of notebooks 02 and 03.

A mutant is made as a person makes it, by changing a few characters of the source; all are
of kinds that public code or drafts of this course have had.
"""

import inspect
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class Full(nn.Module):
    """FullAttnRes, all in one place, for a bug to be planted anywhere."""

    def __init__(self, n_layers, d_model):
        super().__init__()
        self.n_layers = n_layers
        self.queries = nn.Parameter(torch.zeros(n_layers + 1, d_model))
        self.queries_norm = nn.Parameter(torch.zeros(n_layers + 1, d_model))

    def begin(self, embedding):
        return [embedding]

    def read(self, sources, layer):
        # values and keys: [n, ..., d]; weights: [n, ...]
        values = torch.stack(sources)
        gain = 1 + self.queries_norm[layer]
        keys = F.rms_norm(values, values.shape[-1:], gain, eps=1e-5)
        weights = (keys @ self.queries[layer]).softmax(0)
        return torch.einsum("n...,n...d->...d", weights, values)

    def write(self, sources, layer, output):
        return [*sources, output]


class Block(Full):
    """BlockAttnRes likewise. Its state is a pair, the finished sums and the open one."""

    def __init__(self, n_layers, d_model, block_size=4):
        super().__init__(n_layers, d_model)
        self.block_size = block_size

    def begin(self, embedding):
        return [embedding], None

    def read(self, state, layer):
        completed, partial = state
        sources = completed if partial is None else [*completed, partial]
        return super().read(sources, layer)

    def write(self, state, layer, output):
        completed, partial = state
        partial = output if partial is None else partial + output
        if (layer + 1) % self.block_size == 0:
            return [*completed, partial], None
        return completed, partial


class Mutant(NamedTuple):
    """A right stream whose source has `old` once, and `new` in its place."""

    right: type
    name: str
    old: str
    new: str
    what: str                          # is wrong with it
    look: str                          # where a test could see it: a hint, no more

    @property
    def make(self) -> type:
        """The mutated class. Raises ValueError if `old` does not stand there once."""
        source = inspect.getsource(self.right)
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands there other than once")
        space = dict(globals())
        exec(source.replace(self.old, self.new), space)
        return space[self.right.__name__]

    def __str__(self) -> str:
        before = inspect.getsource(self.right)
        after = before.replace(self.old, self.new).splitlines()
        before = before.splitlines()
        gone = [f"  - {line.strip()}" for line in before if line not in after]
        come = [f"  + {line.strip()}" for line in after if line not in before]
        return "\n".join([f"{self.name}: {self.what}", *gone, *come])


STACK, WRITE = "torch.stack(sources)", "[*sources, output]"

# The first five are shown in notebook 02; the others, to find.
FULL = tuple(Mutant(Full, *words) for words in (
    ("no final read", STACK,
     "torch.stack(sources[-1:] if layer == self.n_layers else sources)",
     "the head sees the last layer's output alone",
     "what does the read after the last layer return?"),
    ("hidden states", WRITE, "[*sources, sources[-1] + output]",
     "sources are running sums, not outputs",
     "what is each source made of?"),
    ("embedding lost", WRITE, "[*sources[layer == 0:], output]",
     "the first write drops the embedding",
     "is everything written so far among the sources?"),
    ("a zero source", STACK, "torch.stack([*sources, 0 * sources[0]])",
     "an empty sum is read as a source",
     "how many sources share the weight?"),
    ("scores / sqrt(d)", "@ self.queries[layer]",
     "@ self.queries[layer] / values.shape[-1] ** 0.5",
     "scores are divided, as in attention over tokens",
     "what does a query that you choose read, in numbers worked out by hand?"),
    ("over the tokens", "softmax(0)", "softmax(-1)",
     "the softmax runs over tokens, and sees later ones",
     "what do sources with more than one token read?"),
    ("centred keys", "F.rms_norm", "F.layer_norm",
     "LayerNorm subtracts the mean of each source",
     "do sources of which the channels have a mean other than zero read right?"),
    ("raw keys", "F.rms_norm(values, values.shape[-1:], gain, eps=1e-5)", "gain * values",
     "keys are not normalised: the loud source wins or loses",
     "is a source's weight the same if it is ten times as loud?"),
    ("mixed keys", "weights, values)", "weights, keys)",
     "values are normalised, not only keys",
     "does a source that is ten times as loud arrive ten times as loud?"),
    ("random queries", "queries = nn.Parameter(torch.zeros",
     "queries = nn.Parameter(torch.randn",
     "a new model is not PreNorm",
     "what does a new stream read?"),
    ("one query for all", "self.queries[layer]", "self.queries[0]",
     "every layer asks the first layer's question",
     "does each layer use a query of its own?"),
    ("a gain of zero", "1 + self.queries_norm", "self.queries_norm",
     "query and gain start at zero, and neither gets a gradient",
     "does anything else than the sources learn, when queries are zero and when not?"),
    ("outputs detached", WRITE, "[*sources, output.detach()]",
     "values are right, and no layer learns through its readers",
     "does a gradient come back to every output?"),
    ("keys detached", "F.rms_norm(values,", "F.rms_norm(values.detach(),",
     "a gradient comes back, and it is not the whole one",
     "a gradient that arrives may still be wrong: which tool of autograd compares it "
     "with finite differences?"),
    ("write in place", "return [*sources, output]", "sources.append(output)\n"
     "        return sources",
     "a state that somebody has kept changes later",
     "is the state of before a write still what it was?"),
))

PAIR, CLOSED = "completed if partial is None else [*completed, partial]", "partial], None"
CLOSES = "(layer + 1) % self.block_size"

BLOCK = tuple(Mutant(Block, *words) for words in (
    ("a zero partial", PAIR,
     "[*completed, 0 * completed[0] if partial is None else partial]",
     "an empty block is read, as zeros",
     "how many sources share the weight at the reads that open a block?"),
    ("closes too early", CLOSES, "layer % self.block_size",
     "the first block has one layer, and all others are shifted",
     "after which layers does a block close?"),
    ("pairs counted", CLOSES, "(layer + 1) % (2 * self.block_size)",
     "block_size counts Transformer blocks of two layers each",
     "after which layers does a block close?"),
    ("embedding melted", "[embedding], None", "[], embedding",
     "b_0 is summed into b_1, as if Fig. 2 counted from 1",
     "can a layer in a later block read the embedding alone?"),
    ("embedding twice", "[embedding], None", "[embedding], embedding",
     "b_0 is a source, and part of b_1 as well",
     "how often is each output among the sources?"),
    ("block not reset", CLOSED, "partial], partial",
     "a finished block is read twice and goes on growing",
     "how often is each output among the sources?"),
    ("block of one", "output if partial is None else partial + output", "output",
     "a block is its last output, not the sum",
     "what is each source made of?"),
    ("block mean", CLOSED, "partial / self.block_size], None",
     "a finished block is divided by its size",
     "what is each source made of?"),
    ("partial unread", PAIR, "completed",
     "outputs are not read before their block is finished",
     "is everything written so far among the sources?"),
    ("short block lost", "read(sources",
     "read(completed if layer == self.n_layers else sources",
     "the final read leaves out an unfinished block",
     "what if block_size does not divide the number of layers?"),
    ("query per block", "read(sources, layer)", "read(sources, layer // self.block_size)",
     "layers of one block ask the same question",
     "does each layer use a query of its own?"),
    ("block detached", CLOSED, "partial.detach()], None",
     "no layer learns through a finished block",
     "does a gradient come back to every output?"),
    ("partial detached", PAIR,
     "completed if partial is None else [*completed, partial.detach()]",
     "no layer learns through a block that is still open",
     "does a gradient come back to every output at every read, not only at the last?"),
    ("sum in place", "partial + output", "partial.add_(output)",
     "a state that somebody has kept changes later",
     "is the state of before a write still what it was?"),
))

"""Depth mixing as matrices (sec. 6.2, Fig. 9): h_l = sum_i M_li v_i for any stream.

Whatever a stream does, what a layer reads is linear in what was written once scores
and gates are fixed. So M can be measured without knowing the stream: mark each source,
send the marks along, and see how much of each mark arrives at each read.
"""

from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnres_ref.streams import swapped, swapped_attend, swapped_stream
from attnres_ref.study.probes import depth_weights


class MarkedStream(nn.Module):
    """Any stream, carrying marks beside the contents.

    What is written grows a leading axis of 2 + L: slot 0 holds the content, slot 1 + i
    is all ones in source i (0: the embedding) and all zeros in the others. A read
    hands slot 0 to the layer; the other slots are its row of M.
    """

    def __init__(self, stream: nn.Module, n_layers: int):
        super().__init__()
        self.stream, self.n_sources = stream, n_layers + 1
        self.rows = []                 # a read each: [L + 1, B, T, d]

    def mark(self, content, source):
        marked = content.new_zeros(1 + self.n_sources, *content.shape)
        marked[0], marked[1 + source] = content, 1.0
        return marked

    def begin(self, embedding):
        return self.stream.begin(self.mark(embedding, 0))

    def read(self, state, layer):
        h = self.stream.read(state, layer)
        self.rows.append(h[1:])
        return h[0]

    def write(self, state, layer, output):
        return self.stream.write(state, layer, self.mark(output, 1 + layer))


@torch.no_grad()
def mixing_matrix(model: nn.Module, tokens: Tensor) -> Tensor:
    """M of every token and channel, [L + 1, L + 1, B, T, d], for tokens [B, T].

    Row l is the read of layer l (the last: the final read), column i the source v_i;
    M[l, i] = 0 for i > l. Average over B, T and d for a picture; ranks are those of one
    token and channel.
    """
    marked = MarkedStream(model.stream, model.config.n_layers)
    with blind_to_marks(model), swapped_stream(model, marked):
        model(tokens)
    return torch.stack(marked.rows)


@contextmanager
def blind_to_marks(model: nn.Module):
    """Within, the stream's scores and gates see slot 0 of what they mix."""
    stream = model.stream
    with ExitStack() as stack:
        for name, blind in (("attend", blind_attend), ("gate", blind_gate)):
            if hasattr(stream, name):
                stack.enter_context(swapped(stream, name, blind(getattr(stream, name))))
        yield


def blind_attend(attend):
    """`attend`, whose weights come from the contents and mix the marks too."""

    def attend_to_contents(query, sources, norm_weight=None):
        contents = [source[0] for source in sources]
        _, weights = attend(query, contents, norm_weight, return_weights=True)
        return sum(w.unsqueeze(-1) * source for w, source in zip(weights, sources))

    return attend_to_contents


def blind_gate(gate):
    """`gate`, computed from the content of its first argument: a tensor, or several."""

    def gate_of_content(seen, *weights):
        several = isinstance(seen, tuple)
        content = tuple(source[0] for source in seen) if several else seen[0]
        return gate(content, *weights)

    return gate_of_content


def semiseparable_rank(matrix: Tensor, tolerance: float = 1e-6) -> int:
    """Largest rank of a block of M [L + 1, L + 1] on and below the diagonal: the numbers
    per channel that a recurrence over depth would have to carry.

    Singular values up to `tolerance` times the largest of the block count as zero. No
    matrix of L + 1 rows exceeds (L + 2) // 2: a block is as small as its shorter side.
    """
    blocks = (matrix[j:, : j + 1] for j in range(len(matrix)))
    return max(int(torch.linalg.matrix_rank(block, rtol=tolerance)) for block in blocks)


@torch.no_grad()
def source_ablation(model: nn.Module, inputs: Tensor, targets: Tensor) -> list[Tensor]:
    """Loss increase when one read loses one source, the others sharing its weight.

    Rows as `depth_weights` (which raises for a stream without depth attention), in nats
    per byte over int64 [B, T] inputs and targets. A read with one source cannot lose it:
    its entry is nan. Runs the model once per entry.
    """
    def loss():
        logits = model(inputs)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten()).item()

    n_sources = [len(row) for row in depth_weights(model, inputs)]
    whole = loss()
    rows = [torch.full((n,), torch.nan) for n in n_sources]
    for layer, n in enumerate(n_sources):
        for lost in range(n if n > 1 else 0):
            with swapped_attend(model, without_source(model.stream.attend, layer, lost)):
                rows[layer][lost] = loss() - whole
    return rows


def without_source(attend, layer: int, lost: int):
    """`attend` for one forward pass in which read `layer` does not see source `lost`."""
    reads = iter(range(layer + 1))

    def attend_to_the_rest(query, sources, norm_weight=None):
        if next(reads, None) == layer:
            sources = [*sources[:lost], *sources[lost + 1 :]]
        return attend(query, sources, norm_weight)

    return attend_to_the_rest

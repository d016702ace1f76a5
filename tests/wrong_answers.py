"""Planted wrong answers: each must be refused by the check of its exercise.

WRONG maps the name of an exercise to sources that define its answer wrongly, one way
each. A source runs after the notebook's `imports` cells and nothing else.
"""

WRONG: dict[str, list[str]] = {
    "00.1": [
        """
class MeanStream:                                 # the sum: PreNorm
    def begin(self, embedding):
        return embedding

    def read(self, state, layer):
        return state

    def write(self, state, layer, output):
        return state + output
""",
        """
class MeanStream:                                 # the embedding is not counted
    def begin(self, embedding):
        return embedding, 0

    def read(self, state, layer):
        return state[0] / max(state[1], 1)

    def write(self, state, layer, output):
        return state[0] + output, state[1] + 1
""",
        """
class MeanStream:                                 # the embedding is forgotten
    def begin(self, embedding):
        return (embedding,), ()

    def read(self, state, layer):
        kept = state[1] or state[0]
        return sum(kept) / len(kept)

    def write(self, state, layer, output):
        return state[0], (*state[1], output)
""",
        """
class MeanStream:                                 # a moving average
    def begin(self, embedding):
        return embedding

    def read(self, state, layer):
        return state

    def write(self, state, layer, output):
        return (state + output) / 2
""",
        """
class MeanStream:                                 # one list, changed in place
    def begin(self, embedding):
        return [embedding]

    def read(self, state, layer):
        return sum(state) / len(state)

    def write(self, state, layer, output):
        state.append(output)
        return state
""",
    ],
    "00.2": [
        """
def forward(stream, layers, embedding):           # one bug left: the double residual
    state = stream.begin(embedding)
    for layer, f in enumerate(layers):
        h = stream.read(state, layer)
        state = stream.write(state, layer, h + f(h))
    return stream.read(state, len(layers))
""",
        """
def forward(stream, layers, embedding):           # one bug left: no final read
    state = stream.begin(embedding)
    for layer, f in enumerate(layers):
        state = stream.write(state, layer, f(stream.read(state, layer)))
    return state
""",
        """
def forward(stream, layers, embedding):           # the last layer's read again
    state = stream.begin(embedding)
    for layer, f in enumerate(layers):
        state = stream.write(state, layer, f(stream.read(state, layer)))
    return stream.read(state, layer)
""",
        """
def forward(stream, layers, embedding):           # the last output
    state = stream.begin(embedding)
    for layer, f in enumerate(layers):
        output = f(stream.read(state, layer))
        state = stream.write(state, layer, output)
    return output
""",
    ],
    "00.3": [
        """
def bits_per_byte(logits, targets):               # nats
    log_p = logits.log_softmax(-1).flatten(0, 1)
    return torch.nn.functional.nll_loss(log_p, targets.flatten()).item()
""",
        """
def bits_per_byte(logits, targets):               # the sum over positions
    log_p = logits.log_softmax(-1).gather(-1, targets[..., None])
    return -log_p.sum() / math.log(2)
""",
        """
def bits_per_byte(logits, targets):               # entropy of the prediction
    p = logits.softmax(-1)
    return -(p * p.log2()).sum(-1).mean()
""",
        """
def bits_per_byte(logits, targets):               # times ln 2
    log_p = logits.log_softmax(-1).gather(-1, targets[..., None])
    return -log_p.mean() * math.log(2)
""",
    ],
    "01.1": [
        """
def rms_norm(x, weight, eps=1e-6):                # LayerNorm
    x = x - x.mean(-1, keepdim=True)
    return weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)
""",
        """
def rms_norm(x, weight, eps=1e-6):                # the length
    return weight * x / torch.sqrt(x.square().sum(-1, keepdim=True) + eps)
""",
        """
def rms_norm(x, weight, eps=1e-6):                # no weight
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)
""",
        """
def rms_norm(x, weight, eps=1e-6):                # over all tokens
    return weight * x / torch.sqrt(x.square().mean() + eps)
""",
        """
def rms_norm(x, weight, eps=1e-6):                # no eps
    return weight * x / torch.sqrt(x.square().mean(-1, keepdim=True))
""",
        """
def rms_norm(x, weight, eps=1e-6):                # no root
    return weight * x / (x.square().mean(-1, keepdim=True) + eps)
""",
    ],
    "01.2": [
        """
def pair(h, attention, mlp, norm1, norm2):        # the first h is still replaced
    h = norm1(h)
    h = h + attention(h)
    return h + mlp(norm2(h))
""",
        """
def pair(h, attention, mlp, norm1, norm2):        # the second h is still replaced
    h = h + attention(norm1(h))
    h = norm2(h)
    return h + mlp(h)
""",
        """
def pair(h, attention, mlp, norm1, norm2):        # parallel layers
    return h + attention(norm1(h)) + mlp(norm2(h))
""",
        """
def pair(h, attention, mlp, norm1, norm2):        # post-norm
    h = norm1(h + attention(h))
    return norm2(h + mlp(h))
""",
        """
def pair(h, attention, mlp, norm1, norm2):        # one norm for both
    h = h + attention(norm1(h))
    return h + mlp(norm1(h))
""",
        """
def pair(h, attention, mlp, norm1, norm2):        # the caller's h changes
    h += attention(norm1(h))
    h += mlp(norm2(h))
    return h
""",
    ],
    "01.3": [
        "def sum_rms(n, cosine):\n    return math.sqrt(n)",
        "def sum_rms(n, cosine):\n    return n + n * (n - 1) * cosine",
        "def sum_rms(n, cosine):\n    return math.sqrt(n + n * n * cosine)",
        "def sum_rms(n, cosine):\n    return math.sqrt(n + n * (n - 1) / 2 * cosine)",
        "def sum_rms(n, cosine):\n    return (1 - cosine) * math.sqrt(n) + cosine * n",
    ],
    "01.4": [
        """
def contribution(outputs, embedding):             # before the write
    total, shares = embedding, []
    for output in outputs:
        shares.append(probes.rms(output) / probes.rms(total))
        total = total + output
    return shares
""",
        """
def contribution(outputs, embedding):             # of the last sum
    total = embedding + sum(outputs)
    return [probes.rms(output) / probes.rms(total) for output in outputs]
""",
        """
def contribution(outputs, embedding):             # sizes added up
    total, shares = probes.rms(embedding), []
    for output in outputs:
        total = total + probes.rms(output)
        shares.append(probes.rms(output) / total)
    return shares
""",
        """
def contribution(outputs, embedding):             # without the embedding
    total, shares = 0, []
    for output in outputs:
        total = total + output
        shares.append(probes.rms(output) / probes.rms(total))
    return shares
""",
        """
def contribution(outputs, embedding):             # in place
    total, shares = embedding, []
    for output in outputs:
        total += output
        shares.append(probes.rms(output) / probes.rms(total))
    return shares
""",
    ],
}

WRONG |= {
    "02.1": [
        """
def read(query, sources, eps=1e-5):
    values = torch.stack(tuple(sources))
    keys = F.rms_norm(values, values.shape[-1:], None, eps)
    weights = (keys @ query).softmax(-1)          # over the tokens
    return (weights.unsqueeze(-1) * values).sum(0), weights
""",
        """
def read(query, sources, eps=1e-5):
    values = torch.stack(tuple(sources))
    weights = (values @ query).softmax(0)         # raw keys
    return (weights.unsqueeze(-1) * values).sum(0), weights
""",
        """
def read(query, sources, eps=1e-5):
    values = torch.stack(tuple(sources))
    keys = F.rms_norm(values, values.shape[-1:], None, eps)
    weights = (keys @ query).softmax(0)
    return (weights.unsqueeze(-1) * keys).sum(0), weights      # keys mixed
""",
        """
def read(query, sources, eps=1e-5):
    values = torch.stack(tuple(sources))
    keys = F.rms_norm(values, values.shape[-1:], None, eps)
    weights = (keys @ query / math.sqrt(len(query))).softmax(0)
    return (weights.unsqueeze(-1) * values).sum(0), weights
""",
    ],
    "02.2": ["def factor(layer):\n    return layer", "def factor(layer):\n    return 1"],
    "02.3": [
        "def softmax_backward(weights, d_weights):\n    return weights * d_weights",
        """
def softmax_backward(weights, d_weights):
    return weights * (d_weights - (weights * d_weights).sum(-1, keepdim=True))
""",
        """
def softmax_backward(weights, d_weights):
    return weights * ((weights * d_weights).sum(0) - d_weights)
""",
    ],
    "02.4": [
        """
def mended_read(query, sources):                  # one bug left: the norm
    keys = [F.layer_norm(v, v.shape[-1:]) for v in sources]
    weights = (torch.stack(keys) @ query).softmax(0)
    return sum(w[..., None] * v for w, v in zip(weights, sources))
""",
        """
def mended_read(query, sources):                  # one bug left: the axis
    keys = [F.rms_norm(v, v.shape[-1:], eps=1e-5) for v in sources]
    weights = (torch.stack(keys) @ query).softmax(-1)
    return sum(w[..., None] * v for w, v in zip(weights, sources))
""",
    ],
}

WRONG |= {
    "03.1": [
        # Blocks close one layer late.
        """
def write(state, layer, output, block_size):
    block = output if state.partial is None else state.partial + output
    if layer % block_size == 0 and layer > 0:
        return Depth(completed=(*state.completed, block))
    return Depth(state.completed, partial=block)
""",
        # A new block starts as zeros, which a read takes for a source.
        """
def write(state, layer, output, block_size):
    block = output if state.partial is None else state.partial + output
    if (layer + 1) % block_size == 0:
        return Depth((*state.completed, block), torch.zeros_like(block))
    return Depth(state.completed, partial=block)
""",
        # A closed block is kept as the partial sum as well.
        """
def write(state, layer, output, block_size):
    block = output if state.partial is None else state.partial + output
    if (layer + 1) % block_size == 0:
        return Depth((*state.completed, block), block)
    return Depth(state.completed, partial=block)
""",
        # In place: the old state changes too.
        """
def write(state, layer, output, block_size):
    block = output
    if state.partial is not None:
        block = state.partial
        block += output
    if (layer + 1) % block_size == 0:
        return Depth(completed=(*state.completed, block))
    return Depth(state.completed, partial=block)
""",
        # Running sums: a block starts from the one before it.
        """
def write(state, layer, output, block_size):
    block = output + state.sources[-1]
    if (layer + 1) % block_size == 0:
        return Depth(completed=(*state.completed, block))
    return Depth(state.completed, partial=block)
""",
        # Detached when complete.
        """
def write(state, layer, output, block_size):
    block = output if state.partial is None else state.partial + output
    if (layer + 1) % block_size == 0:
        return Depth(completed=(*state.completed, block.detach()))
    return Depth(state.completed, partial=block)
""",
    ],
    "03.2": [
        "def n_sources(layer, block_size): return 1 + layer // block_size",
        "def n_sources(layer, block_size): return 2 + layer // block_size",
        "def n_sources(layer, block_size): return math.ceil(layer / block_size)",
        "def n_sources(layer, block_size): return layer + 1",
    ],
    "03.3": [
        # The bug as shown.
        """
def sources_of(embedding, outputs, block_size):
    sources = [embedding]
    for begin in range(0, len(outputs), block_size):
        block = sum(outputs[begin : begin + block_size])
        if begin + block_size <= len(outputs):
            block = block.detach()
        sources.append(block)
    return sources
""",
        # The other half detached.
        """
def sources_of(embedding, outputs, block_size):
    sources = [embedding]
    for begin in range(0, len(outputs), block_size):
        block = sum(outputs[begin : begin + block_size])
        if begin + block_size > len(outputs):
            block = block.detach()
        sources.append(block)
    return sources
""",
        # Gradients flow, the open block is gone.
        """
def sources_of(embedding, outputs, block_size):
    sources = [embedding]
    for begin in range(0, len(outputs) - block_size + 1, block_size):
        sources.append(sum(outputs[begin : begin + block_size]))
    return sources
""",
        # Gradients flow, an empty block is a source.
        """
def sources_of(embedding, outputs, block_size):
    sources = [embedding]
    for begin in range(0, len(outputs) + 1, block_size):
        zero = torch.zeros_like(embedding)
        sources.append(sum(outputs[begin : begin + block_size], zero))
    return sources
""",
    ],
    "03.4": [
        # The embedding forgotten.
        """
def smallest_block_size(n_layers, n_tokens, d_model, n_bytes, budget):
    vectors = budget // (n_tokens * d_model * n_bytes)
    return math.ceil(n_layers / min(vectors, n_layers))
""",
        # The short last block forgotten.
        """
def smallest_block_size(n_layers, n_tokens, d_model, n_bytes, budget):
    vectors = budget // (n_tokens * d_model * n_bytes)
    return max(1, n_layers // (vectors - 1))
""",
        # Always fits, hardly ever the smallest.
        "def smallest_block_size(n_layers, n_tokens, d_model, n_bytes, budget): "
        "return n_layers",
        # The number of blocks, not their size.
        """
def smallest_block_size(n_layers, n_tokens, d_model, n_bytes, budget):
    return min(n_layers, budget // (n_tokens * d_model * n_bytes) - 1)
""",
        # bf16 taken for granted.
        """
def smallest_block_size(n_layers, n_tokens, d_model, n_bytes, budget):
    vectors = budget // (n_tokens * d_model * 2)
    return math.ceil(n_layers / min(vectors - 1, n_layers))
""",
    ],
}

WRONG |= {
    "08.1": [
        """
def join(first, second):                         # no rescale
    (o1, m1, l1), (o2, m2, l2) = first, second
    return o1 + o2, torch.maximum(m1, m2), l1 + l2
""",
        """
def join(first, second):                         # the scale of l only
    (o1, m1, l1), (o2, m2, l2) = first, second
    m = torch.maximum(m1, m2)
    return o1 + o2, m, (m1 - m).exp() * l1 + (m2 - m).exp() * l2
""",
        """
def join(first, second):                         # scales that overflow
    (o1, m1, l1), (o2, m2, l2) = first, second
    m, a, b = torch.maximum(m1, m2), m1.exp(), m2.exp()
    l = (a * l1 + b * l2) / m.exp()
    return (a[..., None] * o1 + b[..., None] * o2) / m.exp()[..., None], m, l
""",
        """
def join(first, second):                         # signs of the exponents
    (o1, m1, l1), (o2, m2, l2) = first, second
    m = torch.maximum(m1, m2)
    a, b = (m - m1).exp(), (m - m2).exp()
    return a[..., None] * o1 + b[..., None] * o2, m, a * l1 + b * l2
""",
    ],
    "08.2": [
        "def phase_one_reads(L, S):\n    return sum(range(1, -(-L // S) + 1))",
        "def phase_one_reads(L, S):\n    return 2 * sum(range(-(-L // S)))",
        "def phase_one_reads(L, S):\n    return 2 * sum(range(1, L // S + 1))",
        "def phase_one_reads(L, S):\n    return 2 * S * sum(range(1, -(-L // S) + 1))",
    ],
    "08.3": [
        """
def causal_mask(n_new, start):                    # the diagonal not moved
    return torch.ones(n_new, start + n_new, dtype=torch.bool).tril()
""",
        """
def causal_mask(n_new, start):                    # one too far
    return torch.ones(n_new, start + n_new, dtype=torch.bool).tril(start + 1)
""",
        """
def causal_mask(n_new, start):                    # the past is forgotten
    return torch.ones(n_new, n_new, dtype=torch.bool).tril()
""",
        """
def causal_mask(n_new, start):                    # what is hidden
    return torch.ones(n_new, start + n_new, dtype=torch.bool).triu(start + 1)
""",
    ],
    "08.4": [
        """
def run_block(queries, completed, layers):        # one bug left: the zeros
    first = attend_with_stats(queries, completed)
    partial = torch.zeros_like(completed[0])
    for i, f in enumerate(layers):
        ours = tuple(x[i] for x in first)
        own = attend_with_stats(queries[i : i + 1], [partial])
        o, m, l = merge(ours, tuple(x[0] for x in own))
        partial = partial + f(o / l.unsqueeze(-1))
    return partial
""",
        """
def run_block(queries, completed, layers):        # one bug left: the query
    o, m, l = attend_with_stats(queries, completed)
    partial = layers[0](o[0] / l[0].unsqueeze(-1))
    for i, f in enumerate(layers[1:], start=1):
        own = attend_with_stats(queries[:1], [partial])
        both = merge((o[i], m[i], l[i]), tuple(x[0] for x in own))
        partial = partial + f(both[0] / both[2].unsqueeze(-1))
    return partial
""",
        """
def run_block(queries, completed, layers):        # the open sum is never read
    o, m, l = attend_with_stats(queries, completed)
    return sum(f(o[i] / l[i].unsqueeze(-1)) for i, f in enumerate(layers))
""",
    ],
    "10.1": [
        """
def carried(chunk, n_chunks, n_layers, block_size):          # no embedding
    end = (chunk + 1) * n_layers // n_chunks
    return end // block_size + (end % block_size != 0)
""",
        """
def carried(chunk, n_chunks, n_layers, block_size):          # no partial sum
    return 1 + (chunk + 1) * n_layers // n_chunks // block_size
""",
        """
def carried(chunk, n_chunks, n_layers, block_size):          # always a partial sum
    return 2 + (chunk + 1) * n_layers // n_chunks // block_size
""",
        """
def carried(chunk, n_chunks, n_layers, block_size):          # rounded too early
    end = (chunk + 1) * (n_layers // n_chunks)
    return 1 + end // block_size + (end % block_size != 0)
""",
    ],
    "10.2": [
        "def news(chunk, n_ranks, completed):\n    return completed(chunk)",
        """
def news(chunk, n_ranks, completed):                         # mode "all"
    previous = chunk + 1 - n_ranks
    return completed(chunk) - (completed(previous) if previous >= 0 else 0)
""",
        """
def news(chunk, n_ranks, completed):                         # the sender's rank
    previous = chunk - n_ranks
    return completed(chunk) - (completed(previous - 1) if previous >= 0 else 0)
""",
        """
def news(chunk, n_ranks, completed):                         # since the last transition
    return completed(chunk) - (completed(chunk - 1) if chunk else 0)
""",
    ],
    "10.3": [
        "def bubble(P, V, M):\n    return (P - 1) / (M * V)",
        "def bubble(P, V, M):\n    return (P - 1) / (M + P - 1)",
        "def bubble(P, V, M):\n    return M * V / (M * V + P - 1)",
        "def bubble(P, V, M):\n    return (P * V - 1) / (M * V + P * V - 1)",
    ],
    "10.4": [
        """
def keep(shelf, value):                                      # no hook
    shelf.append(value.detach().requires_grad_())
    return value
""",
        """
def keep(shelf, value):                                      # one graph for both
    shelf.append(value)
    return value
""",
        """
def keep(shelf, value):                                      # goes on from the leaf
    leaf = value.detach().requires_grad_()
    shelf.append(leaf)
    return leaf
""",
        """
def keep(shelf, value):                                      # the bug itself
    kept = value.detach()
    shelf.append(kept)
    value = value.view_as(value)

    def hand_over(gradient):
        return gradient if kept.grad is None else gradient + kept.grad

    value.register_hook(hand_over)
    return value
""",
        """
def keep(shelf, value):                                      # replaces, not adds
    leaf = value.detach().requires_grad_()
    shelf.append(leaf)
    value = value.view_as(value)
    value.register_hook(lambda gradient: leaf.grad)
    return value
""",
        """
def keep(shelf, value):                                      # handed over twice
    leaf = value.detach().requires_grad_()
    shelf.append(leaf)
    value = value.view_as(value)
    value.register_hook(lambda gradient: gradient + 2 * leaf.grad)
    return value
""",
    ],
}

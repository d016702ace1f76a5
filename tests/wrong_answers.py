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
    "04.1": [
        """
def training_step(model, optimizer, loss, clip=1.0):      # as given: after clipping
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    norms = [
        torch.nn.utils.get_total_norm(p.grad for p in layer.parameters()).item()
        for layer in model.layers
    ]
    optimizer.step()
    optimizer.zero_grad()
    return norms
""",
        """
def training_step(model, optimizer, loss, clip=1.0):      # the clipping is gone
    loss.backward()
    norms = [
        torch.nn.utils.get_total_norm(p.grad for p in layer.parameters()).item()
        for layer in model.layers
    ]
    optimizer.step()
    optimizer.zero_grad()
    return norms
""",
        """
def training_step(model, optimizer, loss, clip=1.0):      # clips when it is too late
    loss.backward()
    norms = [
        torch.nn.utils.get_total_norm(p.grad for p in layer.parameters()).item()
        for layer in model.layers
    ]
    optimizer.step()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.zero_grad()
    return norms
""",
        """
def training_step(model, optimizer, loss, clip=1.0):      # gradients stay behind
    loss.backward()
    norms = [
        torch.nn.utils.get_total_norm(p.grad for p in layer.parameters()).item()
        for layer in model.layers
    ]
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return norms
""",
        """
def training_step(model, optimizer, loss, clip=1.0):      # of the weights
    loss.backward()
    norms = [
        torch.nn.utils.get_total_norm(p.detach() for p in layer.parameters()).item()
        for layer in model.layers
    ]
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()
    return norms
""",
    ],
    "04.2": [
        """
def paired_interval(ours, baseline):                      # as if unpaired
    squares = stdev(ours) ** 2 + stdev(baseline) ** 2
    return mean(ours) - mean(baseline), 4.303 * math.sqrt(squares / 3)
""",
        """
def paired_interval(ours, baseline):                      # the normal distribution's
    gaps = [a - b for a, b in zip(ours, baseline)]
    return mean(gaps), 1.96 * stdev(gaps) / math.sqrt(3)
""",
        """
def paired_interval(ours, baseline):                      # no square root of n
    gaps = [a - b for a, b in zip(ours, baseline)]
    return mean(gaps), 4.303 * stdev(gaps)
""",
        """
def paired_interval(ours, baseline):                      # divided by n
    gaps = [a - b for a, b in zip(ours, baseline)]
    variance = sum((gap - mean(gaps)) ** 2 for gap in gaps) / 3
    return mean(gaps), 4.303 * math.sqrt(variance / 3)
""",
        """
def paired_interval(ours, baseline):                      # the wrong way round
    gaps = [b - a for a, b in zip(ours, baseline)]
    return mean(gaps), 4.303 * stdev(gaps) / math.sqrt(3)
""",
        """
def paired_interval(ours, baseline):                      # pairs by rank
    gaps = [a - b for a, b in zip(sorted(ours), sorted(baseline))]
    return mean(gaps), 4.303 * stdev(gaps) / math.sqrt(3)
""",
    ],
    "04.3": [
        """
def fair_gaps(ours, prenorm):                             # the luckiest seed chooses
    shared = min(prenorm, key=lambda lr: min(prenorm[lr]))
    own = min(ours, key=lambda lr: mean(ours[lr]))
    baseline = mean(prenorm[shared])
    return mean(ours[shared]) - baseline, mean(ours[own]) - baseline
""",
        """
def fair_gaps(ours, prenorm):                             # at our best rate
    own = min(ours, key=lambda lr: mean(ours[lr]))
    best = min(mean(losses) for losses in prenorm.values())
    return mean(ours[own]) - mean(prenorm[own]), mean(ours[own]) - best
""",
        """
def fair_gaps(ours, prenorm):                             # the wrong way round
    shared = min(prenorm, key=lambda lr: mean(prenorm[lr]))
    own = min(ours, key=lambda lr: mean(ours[lr]))
    baseline = mean(prenorm[shared])
    return baseline - mean(ours[shared]), baseline - mean(ours[own])
""",
        """
def fair_gaps(ours, prenorm):                             # the best seed of each
    shared = min(prenorm, key=lambda lr: mean(prenorm[lr]))
    own = min(map(min, ours.values())) - min(map(min, prenorm.values()))
    return mean(ours[shared]) - mean(prenorm[shared]), own
""",
        """
def fair_gaps(ours, prenorm):                             # one gap twice
    shared = min(prenorm, key=lambda lr: mean(prenorm[lr]))
    gap = mean(ours[shared]) - mean(prenorm[shared])
    return gap, gap
""",
    ],
    "04.4": [
        "def decays(name, parameter):\n    return parameter.dim() >= 2",
        "def decays(name, parameter):\n    return not name.startswith('stream.')",
        "def decays(name, parameter):\n"
        "    return parameter.dim() >= 2 and 'queries' not in name",
        "def decays(name, parameter):\n    return name.endswith('weight')",
        "def decays(name, parameter):\n    return False",
    ],
    "05.1": [
        "def window_sources(sources, W):\n    return (sources[0], *sources[-W:])",
        "def window_sources(sources, W):\n    return sources[-W:]",
        "def window_sources(sources, W):\n    return sources[-(W + 1):]",
        "def window_sources(sources, W):\n    return (sources[0], *sources[1 : W + 1])",
        "def window_sources(sources, W):\n"
        "    return (sources[0], *sources[1:][-(W - 1) or len(sources):])",
    ],
    "05.2": [
        """
def highway_row(gates):                                   # h + g f(h): no fading
    return [1.0, *gates]
""",
        """
def highway_row(gates):                                   # gate and carry swapped
    row = [1.0]
    for g in gates:
        row = [g * weight for weight in row] + [1 - g]
    return row
""",
        """
def highway_row(gates):                                   # the embedding is not faded
    row = [1.0]
    for g in gates:
        row = [row[0], *((1 - g) * weight for weight in row[1:]), g]
    return row
""",
        """
def highway_row(gates):                                   # the embedding left out
    row = []
    for g in gates:
        row = [(1 - g) * weight for weight in row] + [g]
    return row or [1.0]
""",
        """
def highway_row(gates):                                   # newest first
    row = [1.0]
    for g in gates:
        row = [(1 - g) * weight for weight in row] + [g]
    return row[::-1]
""",
        """
def highway_row(gates):                                   # faded by earlier gates
    row, kept = [], 1.0
    for g in gates:
        row.append(kept * g)
        kept *= 1 - g
    return [kept, *row]
""",
    ],
    "05.3": [
        """
def sinkhorn(logits, rounds=50):                          # as given: over the batch
    matrix = logits.exp()
    for _ in range(rounds):
        matrix = matrix / matrix.sum(0, keepdim=True)
        matrix = matrix / matrix.sum(-1, keepdim=True)
    return matrix
""",
        """
def sinkhorn(logits, rounds=50):                          # over the tokens
    matrix = logits.exp()
    for _ in range(rounds):
        matrix = matrix / matrix.sum(1, keepdim=True)
        matrix = matrix / matrix.sum(-1, keepdim=True)
    return matrix
""",
        """
def sinkhorn(logits, rounds=50):                          # rows only: a softmax
    return logits.softmax(-1)
""",
        """
def sinkhorn(logits, rounds=50):                          # columns only
    return logits.softmax(-2)
""",
        """
def sinkhorn(logits, rounds=1):                           # stops too early
    matrix = logits.exp()
    for _ in range(rounds):
        matrix = matrix / matrix.sum(-2, keepdim=True)
        matrix = matrix / matrix.sum(-1, keepdim=True)
    return matrix
""",
        """
def sinkhorn(logits, rounds=50):                          # forgets the logits
    return torch.full_like(logits, 1 / logits.shape[-1])
""",
    ],
    "05.4": [
        """
def added_parameters(residual, L, d):                     # no final read
    vectors = 2 * L * d
    return {"prenorm": 0, "full": vectors, "multihead": vectors, "static": L * L,
            "input_query": vectors + L * d * d}[residual]
""",
        """
def added_parameters(residual, L, d):                     # no key norms
    vectors = (L + 1) * d
    return {"prenorm": 0, "full": vectors, "multihead": vectors,
            "static": (L + 1) ** 2, "input_query": vectors + (L + 1) * d * d}[residual]
""",
        """
def added_parameters(residual, L, d):                     # heads multiply
    vectors = 2 * (L + 1) * d
    return {"prenorm": 0, "full": vectors, "multihead": 4 * vectors,
            "static": (L + 1) ** 2, "input_query": vectors + (L + 1) * d * d}[residual]
""",
    ],
    "06.1": [
        """
def steps_for(d_model, n_layers, tokens_per_parameter=4):         # head still counted
    parameters = 6 * d_model**2 * n_layers + 256 * d_model
    return tokens_per_parameter * parameters // 1024
""",
        """
def steps_for(d_model, n_layers, tokens_per_parameter=4):         # as given
    parameters = 6 * d_model**2 * n_layers + 2 * 256 * d_model
    return tokens_per_parameter * parameters // 1024
""",
        """
def steps_for(d_model, n_layers, tokens_per_parameter=4):         # pairs for layers
    return tokens_per_parameter * 12 * d_model**2 * n_layers // 1024
""",
    ],
    "06.2": [
        """
def fit_line(computes, losses):                   # a straight line in linear space
    slope, intercept = linear_regression(computes, losses)
    return intercept, -slope
""",
        """
def fit_line(computes, losses):                   # the sign
    x, y = [math.log(c) for c in computes], [math.log(l) for l in losses]
    slope, intercept = linear_regression(x, y)
    return math.exp(intercept), slope
""",
        """
def fit_line(computes, losses):                   # two bases
    x, y = [math.log10(c) for c in computes], [math.log10(l) for l in losses]
    slope, intercept = linear_regression(x, y)
    return math.exp(intercept), -slope
""",
        """
def fit_line(computes, losses):                   # through the two ends only
    a = -math.log(losses[-1] / losses[0]) / math.log(computes[-1] / computes[0])
    return losses[0] * computes[0] ** a, a
""",
    ],
    "06.3": [
        """
def compute_multiplier(ours, baseline, compute):  # ratio of losses
    return baseline[0] * compute ** -baseline[1] / (ours[0] * compute ** -ours[1])
""",
        """
def compute_multiplier(ours, baseline, compute):  # our own exponent in the inverse
    loss = ours[0] * compute ** -ours[1]
    return (baseline[0] / loss) ** (1 / ours[1]) / compute
""",
        """
def compute_multiplier(ours, baseline, compute):  # not divided
    loss = ours[0] * compute ** -ours[1]
    return (baseline[0] / loss) ** (1 / baseline[1])
""",
        """
def compute_multiplier(ours, baseline, compute):  # upside down
    loss = ours[0] * compute ** -ours[1]
    return compute / (baseline[0] / loss) ** (1 / baseline[1])
""",
    ],
    "06.4": [
        """
def resample_pairs(ours, baseline, draw):         # each on its own
    pick = lambda losses: {s: draw.choices(x, k=len(x)) for s, x in losses.items()}
    return pick(ours), pick(baseline)
""",
        """
def resample_pairs(ours, baseline, draw):         # without replacement
    drawn = {s: draw.sample(range(len(x)), k=len(x)) for s, x in ours.items()}
    pick = lambda losses: {s: [losses[s][i] for i in drawn[s]] for s in drawn}
    return pick(ours), pick(baseline)
""",
        """
def resample_pairs(ours, baseline, draw):         # one draw for all sizes
    n = len(next(iter(ours.values())))
    drawn = draw.choices(range(n), k=n)
    pick = lambda losses: {s: [x[i] for i in drawn] for s, x in losses.items()}
    return pick(ours), pick(baseline)
""",
    ],
    "07.1": [
        """
def highway_matrix(gates):                        # g and 1 - g exchanged
    M = torch.eye(len(gates) + 1, dtype=gates.dtype)
    for l, gate in enumerate(gates, start=1):
        M[l] = gate * M[l - 1]
        M[l, l] = 1 - gate
    return M
""",
        """
def highway_matrix(gates):                        # nothing is forgotten
    M = torch.eye(len(gates) + 1, dtype=gates.dtype)
    for l, gate in enumerate(gates, start=1):
        M[l] = M[l - 1]
        M[l, l] = gate
    return M
""",
        """
def highway_matrix(gates):                        # the embedding has no column
    M = torch.zeros(len(gates), len(gates), dtype=gates.dtype)
    for l, gate in enumerate(gates):
        M[l] = (1 - gate) * M[l - 1]
        M[l, l] = gate
    return M
""",
    ],
    "07.2": [
        "def block_bound(L, S):\n    return L // S + S",
        "def block_bound(L, S):\n    return math.ceil(L / S) + 1",
        "def block_bound(L, S):\n    return (L + 2) // 2",
        """
def block_bound(L, S):                            # the embedding is forgotten
    return max(min(math.ceil(j / S), L + 1 - j) for j in range(1, L + 1))
""",
    ],
    "07.3": [
        """
def marked_read(query, marked):                   # as given
    return depth_attention(query, marked)
""",
        """
def marked_read(query, marked):                   # contents right, marks not
    mixed = depth_attention(query, marked)
    mixed[0] = depth_attention(query, [source[0] for source in marked])
    return mixed
""",
        """
def marked_read(query, marked):                   # the marks are lost
    return depth_attention(query, [source[0] for source in marked])
""",
    ],
    "07.4": [
        """
def without(weights, lost):                       # not normalised again
    rest = weights.clone()
    rest[lost] = 0
    return rest
""",
        """
def without(weights, lost):                       # in place
    weights[lost] = 0
    return weights / weights.sum(0)
""",
        """
def without(weights, lost):                       # the free weight is shared evenly
    rest = weights + weights[lost] / (len(weights) - 1)
    rest[lost] = 0
    return rest
""",
        """
def without(weights, lost):                       # dropped instead of zero
    rest = torch.cat([weights[:lost], weights[lost + 1 :]])
    return rest / rest.sum(0)
""",
        """
def without(weights, lost):                       # divided by the mean over tokens
    rest = weights.clone()
    rest[lost] = 0
    return rest / rest.sum(0).mean()
""",
    ],
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

WRONG |= {
    "09.1": [
        "def first_too_many(T, d):\n    return 2**31 // (4 * T * d) + 1",      # bytes
        "def first_too_many(T, d):\n    return 2**32 // (T * d) + 1",         # unsigned
        "def first_too_many(T, d):\n    return 2**31 // (T * d)",             # the last fit
        "def first_too_many(T, d):\n    return -(-(2**31) // (T * d)) + 1",   # rounded up
    ],
    "09.2": [
        "def masked_softmax(scores, n):\n    return scores.softmax(0)",
        """
def masked_softmax(scores, n):                    # still in the denominator
    return torch.where(torch.arange(len(scores)) < n, scores.softmax(0), 0.0)
""",
        """
def masked_softmax(scores, n):                    # the maximum of the padding
    p = (scores - scores.max()).exp()
    p = torch.where(torch.arange(len(scores)) < n, p, 0.0)
    return p / p.sum()
""",
        """
def masked_softmax(scores, n):                    # no maximum
    p = torch.where(torch.arange(len(scores)) < n, scores.exp(), 0.0)
    return p / p.sum()
""",
    ],
    "09.3": [
        """
def query_gradient(w, sources, dh, eps=1e-5):     # the output is still rounded
    v = sources.float()
    r = (v.square().mean(-1) + eps).rsqrt()
    alpha = ((v @ w) * r).softmax(0)
    h = (alpha.unsqueeze(-1) * v).sum(0).to(sources.dtype).float()
    ds = alpha * ((v * dh).sum(-1) - (h * dh).sum(-1))
    return ((ds * r).unsqueeze(-1) * v).sum((0, 1))
""",
        """
def query_gradient(w, sources, dh, eps=1e-5):     # no delta at all
    v = sources.float()
    r = (v.square().mean(-1) + eps).rsqrt()
    alpha = ((v @ w) * r).softmax(0)
    return ((alpha * (v * dh).sum(-1) * r).unsqueeze(-1) * v).sum((0, 1))
""",
        """
def query_gradient(w, sources, dh, eps=1e-5):     # the keys' norm forgotten
    v = sources.float()
    r = (v.square().mean(-1) + eps).rsqrt()
    alpha = ((v @ w) * r).softmax(0)
    dalpha = (v * dh).sum(-1)
    ds = alpha * (dalpha - (alpha * dalpha).sum(0))
    return (ds.unsqueeze(-1) * v).sum((0, 1))
""",
    ],
}

WRONG |= {
    "11.1": [
        """
def step(S, q, k, v, g, beta):                    # linear attention: no correction
    S = g.exp().unsqueeze(-1) * S + beta * torch.outer(k, v)
    return q @ S, S
""",
        """
def step(S, q, k, v, g, beta):                    # looks up before it forgets
    new = g.exp().unsqueeze(-1) * S + beta * torch.outer(k, v - k @ S)
    return q @ new, new
""",
        """
def step(S, q, k, v, g, beta):                    # reads before it writes
    S = g.exp().unsqueeze(-1) * S
    return q @ S, S + beta * torch.outer(k, v - k @ S)
""",
        """
def step(S, q, k, v, g, beta):                    # one rate for all channels
    S = g.mean().exp() * S
    S = S + beta * torch.outer(k, v - k @ S)
    return q @ S, S
""",
        """
def step(S, q, k, v, g, beta):                    # in place
    S *= g.exp().unsqueeze(-1)
    S += beta * torch.outer(k, v - k @ S)
    return q @ S, S
""",
    ],
    "11.2": [
        """
def within(q, k, G):                              # the bug itself
    return ((q * G.exp()) @ (k * (-G).exp()).T).tril()
""",
        """
def within(q, k, G):                              # clamped: finite and wrong
    G = G.clamp(min=-80)
    return ((q * G.exp()) @ (k * (-G).exp()).T).tril()
""",
        """
def within(q, k, G):                              # masked after the exponential
    gap = G.unsqueeze(1) - G
    return (q.unsqueeze(1) * k * gap.exp()).sum(-1).tril()
""",
        """
def within(q, k, G):                              # the mask keeps values, not gradients
    gap = (G.unsqueeze(1) - G).exp()
    later = torch.ones(len(G), len(G), dtype=torch.bool).triu(1).unsqueeze(-1)
    return (q.unsqueeze(1) * k * torch.where(later, 0, gap)).sum(-1)
""",
        """
def within(q, k, G):                              # the diagonal is lost
    early = torch.ones(len(G), len(G), dtype=torch.bool).tril(-1).unsqueeze(-1)
    gap = (G.unsqueeze(1) - G).masked_fill(~early, -torch.inf)
    return (q.unsqueeze(1) * k * gap.exp()).sum(-1)
""",
    ],
    "11.3": [
        "def scores(q, c, U):\n    return (c @ U.T) @ q",                     # all keys
        "def scores(q, c, U):\n    return c @ (U.T @ q) / U.shape[0] ** 0.5",  # scaled
        "def scores(q, c, U):\n    return (c @ (U.T @ q)).softmax(0)",
    ],
    "11.4": [
        """
def route(scores, bias, k):                       # the bias weighs, too
    weights, chosen = (scores + bias).topk(k)
    return chosen, weights / weights.sum(-1, keepdim=True)
""",
        """
def route(scores, bias, k):                       # the bias does nothing
    weights, chosen = scores.topk(k)
    return chosen, weights / weights.sum(-1, keepdim=True)
""",
        """
def route(scores, bias, k):                       # not divided by the sum
    chosen = (scores + bias).topk(k).indices
    return chosen, scores.gather(-1, chosen)
""",
        """
def route(scores, bias, k):                       # a softmax
    chosen = (scores + bias).topk(k).indices
    return chosen, scores.gather(-1, chosen).softmax(-1)
""",
        """
def route(scores, bias, k):                       # divided by all scores
    chosen = (scores + bias).topk(k).indices
    return chosen, scores.gather(-1, chosen) / scores.sum(-1, keepdim=True)
""",
    ],
}

"""Planted wrong answers: the check of the exercise must refuse each and name its bug.

WRONG maps the name of an exercise to triples (old, new, phrase): in the notebook's
solution `old`, which stands there once, becomes `new`, and the check's message has
`phrase` in it. Where `old` is None, `new` is a whole answer.
"""

# Parts of solutions in which more than one bug is planted.
CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), clip)"
BLOCK = "sources.append(sum(outputs[begin : begin + block_size]))"
PRODUCT = "(q.unsqueeze(1) * k * gap.exp()).sum(-1)"

WRONG: dict[str, list[tuple[str | None, str, str]]] = {
    "00.1": [
        ("return total / count", "return total", "this is the sum, PreNorm"),
        ("total / count", "total / max(count - 1, 1)", "divided by the number of outputs"),
        ("return total + output, count + 1",
         "return total * (layer > 0) + output, count + (layer > 0)",
         "the embedding is missing from the mean"),
        ("return total + output, count + 1", "return (total + output) / 2, 1",
         "later outputs weigh more"),
        ("total + output", "total.add_(output)", "change none in place"),
    ],
    "00.2": [
        ("f(h)", "h + f(h)", "h is added twice"),
        ("stream.read(state, len(layers))", "state", "the final read is missing"),
        ("len(layers)", "layer", "the final read has a number of its own"),
        ("stream.read(state, len(layers))", "f(h)", "the last layer's output alone"),
    ],
    "00.3": [
        (" / math.log(2)", "", "which are nats"),
        ("targets.flatten()", 'targets.flatten(), reduction="sum"',
         "summed over the 10 positions"),
        ("targets.flatten()", "logits.flatten(0, 1).softmax(-1)",  # its entropy
         "-log p of the *target*"),
        ("/ math.log(2)", "* math.log(2)", "multiplied by ln 2"),
    ],
    "00.4": [
        ("latest[max(len(latest) - self.k, 0):]", "latest[-self.k:]", "when k is 0"),
        ("latest[max(len(latest) - self.k, 0):]", "latest[:self.k]", "end of the list"),
        ("latest[max(len(latest) - self.k, 0):]", "latest", "older than the latest k"),
        ("- self.k, 0", "- self.k + 1, 0", "cut too early"),
        ("sum(latest, embedding)", "sum(latest, 0 * embedding)", "the read is zero"),
        ("return sum(latest, embedding)",
         "return sum(latest, 0 * embedding) if latest else embedding",
         "the embedding is gone"),
        ("return sum(latest, embedding)",
         "return sum(latest, embedding) / (1 + len(latest))", "not each with weight one"),
        ("sum(latest, embedding)", "sum(v.detach() for v in latest) + embedding",
         "is something detached"),
        (None, """
            class LatestStream:
                def __init__(self, k):
                    self.k = k

                def begin(self, embedding):
                    return embedding, ()

                def read(self, state, layer):
                    embedding, outputs = state
                    return sum(outputs[max(len(outputs) - self.k, 0):], embedding)

                def write(self, state, layer, output):
                    embedding, outputs = state
                    return embedding, (*outputs, output)
            """, "drop in write"),
        (None, """
            class LatestStream:
                def __init__(self, k):
                    self.k, self.latest = k, ()

                def begin(self, embedding):
                    return embedding, self.latest

                def read(self, state, layer):
                    embedding, latest = state
                    return sum(latest, embedding)

                def write(self, state, layer, output):
                    latest = (*state[1], output)
                    self.latest = latest[max(len(latest) - self.k, 0):]
                    return state[0], self.latest
            """, "keep nothing on self"),
        (None, """
            class LatestStream:
                def __init__(self, k):
                    self.k = k

                def begin(self, embedding):
                    return embedding, []

                def read(self, state, layer):
                    embedding, latest = state
                    return sum(latest, embedding)

                def write(self, state, layer, output):
                    embedding, latest = state
                    latest.append(output)
                    del latest[: len(latest) - self.k]
                    return embedding, latest
            """, "change no list or tensor in place"),
    ],
    "01.1": [
        ("return", "x = x - x.mean(-1, keepdim=True)\n    return", "that is a LayerNorm"),
        ("mean", "sum", "divided by the length"),
        ("weight * x", "x", "the weight is missing"),
        ("mean(-1, keepdim=True)", "mean()", "one number for all tokens"),
        (" + eps", "", "zeros give NaN: eps"),
        ("torch.sqrt", "", "the root is missing"),
    ],
    "01.2": [
        ("h + attention(norm1(h))", "norm1(h) + attention(norm1(h))",
         "still replaced by norm1(h)"),
        ("h + mlp(norm2(h))", "norm2(h) + mlp(norm2(h))", "still replaced by norm2(h)"),
        ("\n    h = h + mlp", " + mlp", "must read the sum that attention has written to"),
        (None, """
            def pair(h, attention, mlp, norm1, norm2):
                h = norm1(h + attention(h))
                return norm2(h + mlp(h))
            """, "the norms are outside"),
        ("norm2(h)", "norm1(h)", "the MLP's is norm2"),
        ("h = h + attention", "h += attention", "changed in place"),
    ],
    "01.3": [
        (" + n * (n - 1) * cosine", "", "cosine 0 and cosine 1 give the same"),
        ("math.sqrt", "", "sizes do not add up"),
        ("n * (n - 1)", "n * n", "makes no pair with itself"),
        ("(n - 1)", "(n - 1) / 2", "in both orders"),
        ("math.sqrt(n + n * (n - 1) * cosine)",
         "(1 - cosine) * math.sqrt(n) + cosine * n", "at cosine 0 and 1, not between"),
    ],
    "01.4": [
        ("rms(total)", "rms(total - output)", "the sum before the write"),
        ("rms(total)", "rms(embedding + sum(outputs))", "divided by the last sum"),
        ("probes.rms(total)",
         "sum(map(probes.rms, [embedding, *outputs[: len(shares) + 1]]))",
         "is not the sum of the RMS"),
        ("= embedding, []", "= 0, []", "the sum starts at the embedding"),
        ("total = total + output", "total += output", "changed in place"),
    ],
    "01.5": [
        ("- loss(a) - loss(b) + loss()", "- loss()", "the rise without both, from which"),
        (" + loss()", "", "losses are not rises"),
        ("+ loss()", "- loss()", "once too often"),
        ("loss(a, b) - loss(a) - loss(b) + loss()",
         "loss(a) + loss(b) - loss(a, b) - loss()", "the sign is turned"),
        ("loss(a, b) - loss(a) - loss(b) + loss()",
         "(loss(a, b) - loss()) / (loss(a) + loss(b) - 2 * loss())", "that is a ratio"),
        ("layer in self.dropped", "layer == (*self.dropped, None)[0]", "only the first"),
        ("layer in self.dropped", "layer == (None, *self.dropped)[-1]", "only the second"),
        ("layer in self.dropped", "(layer,) == self.dropped", "nothing is dropped"),
        ("logits = with_parts(model, stream=Without(*dropped))(inputs)",
         "model.stream = Without(*dropped); logits = model(inputs)", "keeps your stream"),
        ("state if layer in self.dropped else state + output",
         "output if layer in self.dropped else state + output", "layers 1 and 4"),
    ],
    "02.1": [
        ("(-1, -1, 3, -1)", "(0, 0, 2, 0)", "normalise the key of v_4 first"),
        ("(-1, -1, 3, -1)", "(0, 0, 4, 0)", "turn the rivals down"),
        ("(-1, -1, 3, -1)", "(1, 1, 1, 1)", "which channels of its key does your query"),
        ("(-1, -1, 3, -1)", "(0, 3)", "a query has four numbers"),
    ],
    "02.2": [
        ("-1) * keys", "-1) * values", "so something else is averaged"),
        (" / math.sqrt(query.shape[0])", "", "what has become of the scores?"),
        ("math.sqrt(query.shape[0])", "2", "depends on their number"),
        ("softmax(0)", "softmax(-1)", "over which axis does the softmax run?"),
        ("softmax(0)", "sigmoid()", "the query of zeros does not give the first row"),
        ("keys @ query / math.sqrt(query.shape[0])", "keys @ query * 2",
         "the first row of the table is right, the second is not"),
    ],
    "02.3": [
        ("nn.init.normal_(parameter)", "pass", "5: what does a query that you choose read"),
        ("my_tests = [reads_by_hand, gradients_are_whole]", "my_tests = [reads_by_hand]",
         "14 of 15 mutants killed; the first alive is number 14: a gradient that arrives"),
        ("(1 + stream.queries_norm[layer])", "stream.queries_norm[layer]",
         "reads_by_hand is thrown out, because the right stream fails it as well"),
        ("[reads_by_hand, gradients_are_whole]", "reads_by_hand", "into a list"),
    ],
    "02.4": [
        ("rms_norm", "layer_norm", "the keys are still LayerNorm's"),
        ("softmax(0)", "softmax(-1)", "the softmax still runs over the tokens"),
        ("F.rms_norm(v, v.shape[-1:], eps=1e-5)", "v", "the keys are not normalised"),
    ],
    "02.5": [
        (" - b[i] * v", "", "the key must not feel the length of its source"),
        (" + a[i] * query - b[i] * v", "", "as keys they get nothing"),
        ("alpha[i].unsqueeze(-1) * d_h + a[i]", "a[i]", "as values they get nothing"),
        (" - (alpha * d_alpha).sum(0)", "", "takes weight from the others"),
        (" * s / d)", " * s)", "grows with the number of channels"),
        ("r**2", "r", "count the powers of r"),
        (".reshape(-1, d).sum(0)", "", "the tokens share the query"),
        ("(a[i] * v)", "(alpha[i].unsqueeze(-1) * v)", "the gradient of the query differs"),
    ],
    "03.1": [
        ("(layer + 1) % block_size == 0", "layer % block_size == 0 and layer > 0",
         "how many outputs are in the open block"),
        ("completed=(*state.completed, block)",
         "(*state.completed, block), torch.zeros_like(block)",
         "Zeros would be read as a source"),
        ("completed=(*state.completed, block)", "(*state.completed, block), block",
         "the closed block must not be read twice"),
        ("state.partial + output", "state.partial.add_(output)", "not in place (+=)"),
        ("output if state.partial is None else state.partial + output",
         "output + state.sources[-1]", "a block sums its own layers' outputs"),
        ("completed, block)", "completed, block.detach())", "do not detach"),
    ],
    "03.2": [
        ("math.ceil(layer / block_size)", "layer // block_size",
         "and the partial sum of the block under way"),
        ("1 + math.ceil(layer / block_size)", "2 + layer // block_size",
         "alone, no partial sum"),
        ("1 + ", "", "the first layer reads the embedding"),
        ("math.ceil(layer / block_size)", "layer / block_size",
         "a block that has begun is one"),
        ("math.ceil(layer / block_size)", "layer", "that is Full AttnRes"),
    ],
    "03.3": [
        (BLOCK, f"{BLOCK}\n        if begin + block_size <= len(outputs):"
         " sources[-1] = sources[-1].detach()", "no gradient reaches v1, v2, v3"),
        (BLOCK, f"{BLOCK}\n        if begin + block_size > len(outputs):"
         " sources[-1] = sources[-1].detach()", "no gradient reaches v1, v2."),
        ("len(outputs),", "len(outputs) - block_size + 1,",
         "the block under way is a source"),
        ("return sources",
         "return sources + [0 * embedding] * (len(outputs) % block_size == 0)",
         "an empty one is not"),
    ],
    "03.4": [
        ("vectors - 1", "vectors", "Did you count the embedding"),
        ("math.ceil(n_layers / n_blocks)", "n_layers // n_blocks",
         "the last, short block when S does not divide L"),
        ("math.ceil(n_layers / n_blocks)", "n_layers", "the smallest is wanted"),
        ("math.ceil(n_layers / n_blocks)", "n_blocks", "9 is the number of blocks"),
        ("d_model * n_bytes", "d_model * 2", "twice as wide need twice the budget"),
        ("budget // ", "budget / ", "a vector has to fit whole"),
    ],
    "03.5": [
        ("nn.init.normal_(stream.queries)", "pass", "does each layer use a query of its"),
        ("my_tests = [reads_by_hand, every_read_sends_gradients]",
         "my_tests = [reads_by_hand]", "at every read, not only at the last?"),
        ("my_tests = [reads_by_hand, every_read_sends_gradients]",
         "my_tests = [every_read_sends_gradients]", "at the reads that open a block?"),
        ("min(i + size, layer + 1)", "i + size", "the right stream fails it as well"),
        ("[reads_by_hand, every_read_sends_gradients]", "reads_by_hand", "into a list"),
    ],
    "04.1": [
        ("loss.backward()", f"loss.backward()\n    {CLIP}", "measured after clipping"),
        (CLIP, "", "did not use the clipped gradients"),
        (f"{CLIP}\n    optimizer.step()", f"optimizer.step()\n    {CLIP}",
         "before the step"),
        ("optimizer.zero_grad()", "", "gradients are left behind"),
        ("p.grad for p", "p.detach() for p", "not the weights"),
    ],
    "04.2": [
        ("patient = [decided(gaps)", "patient = [decided(gaps[:3])", "all pairs count"),
        ("any(decided(gaps[:n])", "all(decided(gaps[:n])", "what came later is never"),
        ("mean(patient), mean(impatient)", "mean(impatient), mean(patient)",
         "patient one's share first"),
        ("range(3, len(gaps) + 1)", "range(3, len(gaps))", "the last look, at all pairs"),
        ("range(3, len(gaps) + 1)", "range(2, len(gaps) + 1)", "first look is at three"),
        ("range(3, len(gaps) + 1)", "(3,)", "one look is not enough"),
        ("FACTOR[len(gaps)] * error", "1.96 * error", "1.96 is for many values"),
        ("decided(gaps[:n])", "decided(gaps[n - 3 : n])", "not of the latest ones"),
        ("stdev(gaps) / math.sqrt(len(gaps))",
         "math.dist(gaps, len(gaps) * [mean(gaps)]) / len(gaps)", "too narrow"),
        ("abs(mean(gaps)) >", "mean(gaps) >", "an interval has two ends"),
        ("stdev(gaps) / math.sqrt(len(gaps))", "stdev(gaps)", "divide by sqrt(n)"),
        ("mean(patient), mean(impatient)", "sum(patient), sum(impatient)", "not numbers"),
    ],
    "04.3": [
        ("mean(prenorm[lr])", "min(prenorm[lr])", "chosen by its luckiest seed"),
        ("mean(ours[shared]) - baseline", "mean(ours[own]) - mean(prenorm[own])",
         "that is our best rate"),
        ("mean(ours[shared]) - baseline, mean(ours[own]) - baseline",
         "baseline - mean(ours[shared]), baseline - mean(ours[own])", "not the reverse"),
        ("mean(ours[own]) - baseline",
         "min(map(min, ours.values())) - min(map(min, prenorm.values()))",
         "the best seed of each is luck"),
        ("mean(ours[own])", "mean(ours[shared])", "where its own mean is lowest"),
    ],
    "04.4": [
        (' and not name.startswith("stream.")', "", "whatever its shape"),
        ("parameter.dim() >= 2 and ", "", "is a norm's weight"),
        ('not name.startswith("stream.")', "'queries' not in name",
         "is what the residual stream learns"),
        ('parameter.dim() >= 2 and not name.startswith("stream.")',
         'name.endswith("weight")', "is a norm's weight"),
        ("parameter.dim() >= 2", "False", "is a matrix and decays"),
    ],
    "04.5": [
        ("FACTOR[n]", "1.96", "1.96 is for many values"),
        ("FACTOR[n]", "FACTOR[len(gaps)]", "a study of n has FACTOR[n]"),
        ("stdev(chosen)", "stdev(gaps)", "a study of three does not know"),
        ("stdev(chosen) / math.sqrt(n)", "math.dist(chosen, n * [mean(chosen)]) / n",
         "divide by n - 1"),
        (" / math.sqrt(n)", "", "divide by sqrt(n)"),
        ("combinations(gaps, n)", "(gaps[i : i + n] for i in range(len(gaps) - n + 1))",
         "only neighbours"),
        ("mean(map(excludes_zero, combinations(gaps, n)))",
         "mean(excludes_zero([a, b, c]) for a in gaps for b in gaps for c in gaps)",
         "may not stand twice"),
        ("return mean(map", "return sum(map", "return their share"),
        ("abs(mean(chosen)) >", "mean(chosen) >", "an interval has two ends"),
        ("abs(mean(chosen)) >", "-mean(chosen) >", "an interval has two ends"),
        ("mean(chosen)) > half_width", "mean(chosen)) < half_width", "the share is"),
    ],
    "05.1": [
        ("*outputs[-W:]", "*sources[-W:]", "one source twice"),
        ("(embedding, *outputs[-W:])", "sources[-W:]", "the embedding, source 0, must"),
        ("(embedding, *outputs[-W:])", "sources[-(W + 1) :]",
         "the embedding, source 0, must"),
        ("outputs[-W:]", "outputs[:W]", "the latest outputs"),
        ("outputs[-W:]", "outputs[max(0, len(outputs) - W + 1) :]",
         "W outputs, and the embedding besides"),
    ],
    "05.2": [
        ("weight / so_far", "weight", "a gate is larger than its weight"),
        ("weight / so_far", "1 - weight / so_far", "g and 1 - g are exchanged"),
        ("row[1:]", "row", "has none"),
        ("row[1:]", "row[:0:-1]", "not even the last weight comes out"),
        ("so_far += weight", "pass", "not even the last weight comes out"),
        ("return gates", "return gates[::-1]", "in the wrong order"),
        ("row[0]", "row[1]", "not even the last weight comes out"),
        ("so_far, gates = row[0], []\n    for weight in row[1:]",
         "so_far, gates = row[-1], []\n    for weight in row[-2::-1]",
         "the order is turned round"),
    ],
    "05.3": [
        ("sum(-2, keepdim=True)", "sum(0, keepdim=True)", "axis 0 is the batch"),
        ("sum(-2, keepdim=True)", "sum(1, keepdim=True)", "axis 1 is the tokens"),
        ("matrix / matrix.sum(-2, keepdim=True)", "matrix",
         "columns do not sum to one: alternate"),
        ("matrix / matrix.sum(-1, keepdim=True)", "matrix",
         "rows do not sum to one: alternate"),
        ("range(rounds)", "range(1)", "often enough"),
        ("logits.exp()", "torch.ones_like(logits)", "not exp(logits) any more"),
    ],
    "05.4": [
        ("if seed not in claim.tuned_on", "", "had a part in choosing its recipe"),
        ("seed: losses for seed, *losses in claim.runs",
         "i: losses for i, (seed, *losses) in enumerate(claim.runs)",
         "more runs than seeds"),
        ("claim.tried[0] <= claim.tried[1]", "True", "more recipes than its baseline"),
        ("holm([gap.p for gap in gaps.values()])", "[gap.p for gap in gaps.values()]",
         "how many are there?"),
        ("holm([gap.p for gap in gaps.values()])",
         "[len(gaps) * gap.p for gap in gaps.values()]", "how many tests are left"),
        (" and gap.mean < 0", "", "look to which side"),
        ("*zip(*fresh.values())",
         "*(losses[:: 1 - 2 * i] for i, losses in enumerate(zip(*fresh.values())))",
         "compare them within the pair"),
    ],
    "05.5": [
        ("self.factor * embedding", "embedding", "nothing is louder"),
        ("d_model**0.5", "8.0", "at d_model = 16 you multiply by 8"),
        ("d_model**0.5", "nn.Parameter(torch.tensor(d_model**0.5))", "it has 3 parameters"),
        ("(FullAttnRes)", "(PreNorm)", "it has 0 parameters"),
        ("self.factor * embedding", "embedding.mul_(self.factor)",
         "begin changed the embedding itself"),
        ("def begin(self, embedding):\n"
         "        return super().begin(self.factor * embedding)",
         "def read(self, state, layer):\n"
         "        return self.factor * super().read(state, layer)",
         "that a layer's RMSNorm takes out"),
        ("return super().begin(self.factor * embedding)",
         "return super().begin(self.factor * embedding)\n\n"
         "    def write(self, state, layer, output):\n"
         "        return super().write(state, layer, self.factor * output)",
         "nothing is louder"),
        ("return super().begin(self.factor * embedding)",
         "return super().begin(self.factor * embedding)\n\n"
         "    def write(self, state, layer, output):\n"
         "        return super().write(state, layer, 2 * output)",
         "outputs stay as written"),
        ("return super().begin(self.factor * embedding)",
         "return super().begin(self.factor * embedding)\n\n"
         "    def read(self, state, layer):\n"
         "        return torch.stack(state.sources).mean(0)",
         "not Full on a loud embedding"),
    ],
    "06.1": [
        ("(A / loss) ** (1 / a) / compute", "A * compute**-a / loss",
         "that is the ratio of the losses"),
        ("1 / a", "1 / ours[1]", "the baseline's A and its exponent"),
        (" / compute", "", "that is the baseline's compute"),
        ("(A / loss) ** (1 / a) / compute", "compute / (A / loss) ** (1 / a)",
         "below one: the baseline needs more"),
    ],
    "06.2": [
        ("n_layers\n", "n_layers + 256 * d_model\n", "one of the two, embedding or output"),
        ("n_layers\n", "n_layers + 512 * d_model\n", "the embedding and the output head"),
        ("6 *", "12 *", "12 d^2 is a pair, attention and MLP"),
    ],
    "06.3": [
        ("losses[size][i] for i", "draw.choice(losses[size]) for _",
         "pairs are torn apart"),
        ("draw.choices", "draw.sample", "draw with replacement"),
        ("return", "drawn = dict.fromkeys(drawn, drawn[min(drawn)])\n    return",
         "all sizes draw the same seeds"),
    ],
    "06.4": [
        (None, """
            def plan(sizes, budget):
                return [int(budget / sum(sizes))] * len(sizes)
         """, "spend most of it where a pair is dearest"),
        (None, "def plan(sizes, budget): return [2] * len(sizes)", "money is left"),
        ("/ sizes[i]", "", "the largest size has the longest lever"),
        ("sum(n * a for n, a in zip(pairs, x)) / sum(pairs)", "sum(x) / len(x)",
         "all additional pairs are at one size"),
        ("[2] * len(sizes)", "[1] + [2] * 4", "fewer than two pairs"),
        ("budget - 2 * sum(sizes)", "budget", "the first two of every size included"),
        ("return pairs", "return [n / 3 for n in pairs]", "a whole number of pairs"),
    ],
    "07.1": [
        (" / rest.sum(0)", "", "the read shrinks"),
        ("weights.clone()", "weights", "have changed: copy first"),
        ("rest / rest.sum(0)", "(rest > 0) * (rest + weights[lost] / (len(rest) - 1))",
         "in proportion to their weights"),
        ("rest[lost] = 0", "rest = torch.cat([rest[:lost], rest[lost + 1 :]])",
         "keep the lost source, with weight zero"),
        ("rest.sum(0)", "rest.sum(0).mean()", "all tokens are divided by the same number"),
    ],
    "07.2": [
        ("share / size", "share", "compared between one read and another"),
        ("share / size for share in shares", "w for w in all_reads[l][\"weights\"]",
         "how long the vector is"),
        ("share / size for share in shares]", "-share for share in shares]",
         "fall where the costs rise"),
        ("in shares]", "in shares[1:]]", "the embedding first"),
    ],
    "07.3": [
        ("sum(mixed)", "depth_attention(query, marked)", "the marks still have weights"),
        ("sum(mixed)", "sum(mixed)[0]", "contents and marks are both mixed"),
    ],
    "07.4": [
        ("return cut + rank - 1", "return cut", "which reads are left to need them"),
        ("(rank - 2)", "(rank - 1)", "the embedding is in the state as well"),
        (None, "def shortest_depth(S, rank): return 2 * rank - 2", "that is Full AttnRes"),
        (None, "def shortest_depth(S, rank): return (rank - 1) * S",
         "an open block is in the state as well"),
        ("return cut + rank - 1", "return cut + 2 * rank - 4", "a model has it already"),
        ("return cut + rank - 1", "return cut + rank - 2", "has 2 at 6 layers"),
        ("return cut + rank - 1", "return float(cut + rank - 1)", "not a number of layers"),
    ],
    "08.1": [
        ("(m1 - m).exp(), (m2 - m).exp()", "torch.ones_like(m), torch.ones_like(m)",
         "the sums are added as they are"),
        ("a.unsqueeze(-1) * o1 + b.unsqueeze(-1) * o2", "o1 + o2",
         "it needs the same two scales as l"),
        ("(m1 - m).exp(), (m2 - m).exp()", "m1.exp() / m.exp(), m2.exp() / m.exp()",
         "scores in the thousands overflow"),
        ("(m1 - m).exp(), (m2 - m).exp()", "(m - m1).exp(), (m - m2).exp()",
         "the scales are upside down"),
    ],
    "08.2": [
        ("m.masked_fill(m == -torch.inf, 0)", "m", "two empty parts give nan"),
        ("return o, m,", "return o, finite,", "has lost its maximum of -inf"),
        ("m.masked_fill(m == -torch.inf, 0)", "m.clamp(min=-1e4)",
         "minus a million are taken for nothing"),
        (None, """
            def join_any(first, second):
                for part, other in (first, second), (second, first):
                    if (part[1] == -torch.inf).any():
                        return other
                return merge(first, second)
         """, "is decided for all at once"),
    ],
    "08.3": [
        (", None\n", ", torch.zeros_like(completed[0])\n", "an empty partial sum"),
        ("queries[i : i + 1]", "queries[:1]", "the first layer's query"),
        ("if partial is not None", "if False", "the partial sum is never read"),
    ],
    "08.4": [
        ("share * (kv + depth)", "share * kv", "the depth reads are among them"),
        ("share * (kv + depth)", "share * depth", "its own keys and values"),
        ("gain <= 0", "gain == 0", "stays below a third at any batch"),
        ("gain <= 0", "gain < 0", "ZeroDivisionError"),
        ("math.ceil", "math.floor", "round up"),
    ],
    "08.5": [
        ("(4, 1), (3, 1), (4, 1000)", "(4, 1), (4, 1000)", "do all block sizes divide"),
        ("(4, 1), (3, 1), (4, 1000)", "(4, 1), (3, 1)", "scores in the hundreds"),
        ("same_values, same_after_a_step, same_gradients",
         "same_values, same_gradients", "between two passes of a model in training"),
        ("same_values, same_after_a_step, same_gradients",
         "same_values, same_after_a_step", "are gradients, in value?"),
        ("parameter.data.neg_()\n", "parameter.data.normal_()\n",
         "the right stream fails it as well"),
    ],
    "09.1": [
        ("(T * d)", "(4 * T * d)", "not bytes"),
        ("return 2**31", "return 2**32", "int32 is signed"),
        (" + 1", "", "which still fits"),
        ("2**31 // (T * d)", "-(-(2**31) // (T * d))", "is the division rounded down?"),
    ],
    "09.2": [
        ('-float("inf")', "0.0", "a score of zero is not no source"),
        (None, """
            def masked_softmax(scores, n):
                real = torch.arange(len(scores)) < n
                return torch.where(real, scores.softmax(0), 0.0)
            """, "the padding is still in the denominator"),
        ("scores.max()", "max(scores.max(), 0)", "the maximum comes from the padding"),
        (" - scores.max()", "", "no exponent may be above zero"),
    ],
    "09.3": [
        ("    alike = shared + 0.01", "    alike = shared + 1.0",
         "one that takes delta from a rounded h"),
        ("    alike = shared + 0.01", "    alike = shared + 0.0",
         "your test refuses a right gradient"),
        ("        (100 * w, alike),", "", "one whose exponents may be above zero"),
        ("not error(gradient, w, v.bfloat16()) < 0.02",
         "error(gradient, w, v.bfloat16()) > 0.02", "2 of 5 broken gradients escape"),
        ("    lost[1] = 0\n", "", "one that leaves eps out of the rms"),
        ("independent(5, 64)", "independent(4, 64)",
         "1 of 5 broken gradients escape your test, among them one whose padded rows"),
        ("independent(4, 8192)", "independent(4, 64)", "adds the tokens up in bf16"),
        (None, """
            def refuses(gradient):
                return True
            """, "your test refuses a right gradient"),
    ],
    "09.4": [
        ("g + dv", "dv", "add to what is there"),
        (", mask=both, other=0.0).to(", ", mask=both).to(", "without `other` is undefined"),
        ("(i < n)[:, None] & inside[None, :]", "(i < n)[:, None]", "is not masked"),
        ("(i < n)[:, None] & inside[None, :]", "inside[None, :]", "is not masked"),
        ('tl.where(i < n, tl.sum(v * w[None, :], 1) * r, -float("inf"))',
         "tl.sum(v * w[None, :], 1) * r", "do padded rows take weight?"),
        ("alpha, to_w, to_v = through_softmax(s, r, dalpha, i < n, D)", """
    alpha = tl.exp(s) / tl.sum(tl.exp(s), 0)
    to_w = alpha * (dalpha - tl.sum(alpha * dalpha, 0)) * r
    to_v = -to_w * tl.where(i < n, s, 0.0) * r / D
""", "no exponent may be above zero"),
        ("alpha, to_w, to_v = through_softmax(s, r, dalpha, i < n, D)", """
    alpha = tl.exp(s - tl.max(s, 0)) / tl.sum(tl.exp(s - tl.max(s, 0)), 0)
    h = tl.sum(alpha[:, None] * v, 0).to(tl.float16).to(tl.float32)
    to_w = alpha * (dalpha - tl.sum((h - v_0) * dh, 0)) * r
    to_v = -to_w * tl.where(i < n, s, 0.0) * r / D
""", "delta comes from a rounded h"),
        ("(v - v_0[None, :])", "v", "the digits are lost in v . dh"),
        (".to(tl.float32)", "", "squares of half-precision sources overflow"),
        ("tl.sum(to_w[:, None] * v, 0)", "tl.sum(to_w[:, None] * v, 0).to(tl.float16)",
         "right to two digits"),
        ("tl.sum(tl.where(i[:, None] == 0, v, 0.0), 0)",
         "tl.load(v_ptr + t * D + lanes, mask=inside, other=0.0).to(tl.float32)",
         "it loads 6 u of v"),
        ("tl.store(g_ptr", "tl.store(g_ptr + at, g, mask=both)\n    tl.store(g_ptr",
         "it stores 10 u of g"),
        ("tl.store(dw_ptr + t * D + lanes, dw, mask=inside)", "pass", "dw is not stored"),
        ("* dh[None, :], 1)", "* dh[:, None], 1)", "in one_read: dalpha = tl.sum("),
        ("@triton.jit\n", "", "@triton.jit is missing"),
        (" + to_v[:, None] * v", "", "g lacks a term, -ds s r^2 v / d"),
        ("+ to_w[:, None]", "- to_w[:, None]", "wrong sign: dv holds ds r w"),
        ("i[:, None] * T + t", "t * n + i[:, None]", "right for one token"),
        ("/ D + eps", "/ BLOCK_D + eps", "divides by D, not BLOCK_D"),
        (" / D + eps", " / D", "without eps the rms of a row of zeros is 0"),
        ("dw_ptr + t * D", "dw_ptr", "no dw is stored for the tokens [1, 2]"),
        ("tl.store(g_ptr", "tl.store(v_ptr", "v is an input"),
        ("tl.store(g_ptr + at, g + dv + to_v[:, None] * v, mask=both)", "pass",
         "g is as it was"),
        ("g + dv + to_v[:, None] * v,", "(g + dv + to_v[:, None] * v).to(tl.bfloat16),",
         "g holds numbers of half precision"),
        ("g_ptr + at, g", "g_ptr + T * D + at, g", "between a source and the next"),
    ],
    "10.1": [
        (" - held", "", "nothing is left out"),
        ("completed(previous - 1)", "completed(previous)",
         "what the rank completed itself"),
        ("chunk + 1 - n_ranks", "chunk - n_ranks", "what the sender's rank holds"),
        ("completed(previous - 1) if previous >= 0", "completed(chunk - 1) if chunk",
         "what the sender had received"),
    ],
    "10.2": [
        (" + first_return", "", "this is Layout's plan"),
        ("chunk + 1 == layout.n_ranks", "(chunk + 1) % layout.n_ranks == 0",
         "one more into rank 0 in every round"),
        ("== layout.n_ranks", ">= layout.n_ranks", "one transition has a tensor more"),
        ("chunk + 1 == layout.n_ranks", "chunk + 1 == layout.n_ranks in (2, 4)",
         "which rank lacks which block, and until when?"),
    ],
    "10.3": [
        ("before is None or before.end < span.start", "True", "with free links you find"),
        ("before is None or before.end < span.start", "before is None",
         "does the way start"),
        ("before.end < span.start",
         "before.end < span.start or span.start in [m.end for m in run.messages "
         "if following(m.action, layout) == span.action]", "stay on the rank"),
        ("max(run.spans, key=lambda span: span.end)", "run.spans[-9]",
         "at the end of the LAST pass"),
        ("links += span.start - before.end", "links += 2 * (span.start - before.end)",
         "no moment may count twice"),
        ("compute += span.end - span.start",
         "compute = sum(s.end - s.start for s in run.spans)", "only those on the chain"),
        (None, """
            def pace(run, layout):
                compute = max(s.end for s in run.spans)
                return compute, sum(m.end - m.start for m in run.messages)
            """, "that is all messages"),
    ],
    "10.4": [
        (" + leaf.grad", "", "only the present chunk's gradient goes upstream"),
        ("shelf.append(leaf)", "shelf.append(value)", "they need a leaf"),
        ("return value", "return leaf", "the present chunk goes on from the leaf"),
        (".requires_grad_()", "", "asks for no gradient, so none gathers"),
        ("gradient + leaf.grad", "leaf.grad", "the present chunk's own gradient is lost"),
        ("+ leaf.grad", "+ 2 * leaf.grad", "each counted once"),
    ],
    "10.5": [
        ("range(2)", "range(1)", "wrong in the second, on the same buffer"),
        ("(torch.exp, torch.square)", "(torch.exp,)", "refuses a right store"),
        (None, """
            def refuses(keep):
                x = torch.randn(3, dtype=torch.float64, requires_grad=True)
                shelf = []
                present = keep(shelf, x)
                shelf[0].exp().sum().backward()
                present.sin().sum().backward()
                return not torch.allclose(x.grad, x.cos() + x.exp())
            """, "right for one later reader and wrong for two"),
        (None, """
            def refuses(keep):
                x = torch.randn(3, requires_grad=True)
                return not torch.equal(keep([], x), x)
            """, "6 of 6 broken stores escape your test"),
    ],
    "11.1": [
        ("k, nothing, torch", "k, -(k @ S), torch", "the read has changed its sign"),
        ("torch.zeros_like(key), 1.0", "torch.full_like(key, -50.0), 0.0",
         "every key uses every channel"),
        ("F.normalize(key, dim=-1)", "key", "KDA's keys have length one"),
        ("F.normalize(key, dim=-1)", "key / key.norm() ** 2", "KDA's keys have length one"),
        (", 1.0", ", 0.5", "the share of the error"),
        (", 1.0", ", 2.0", "comes out of a sigmoid"),
        ("nothing, torch", "k @ S, torch", "reads what it read before"),
        (", 1.0", ", S.zero_().sum() + 1.0", "S was changed"),
    ],
    "11.2": [
        (PRODUCT, "((q * G.exp()) @ (k * (-G).exp()).T).tril()",
         "exp of a positive number overflowed"),
        (PRODUCT,
         "((q * G.clamp(min=-80).exp()) @ (k * (-G.clamp(min=-80)).exp()).T).tril()",
         "clamping G changes"),
        (PRODUCT, "(q.unsqueeze(1) * k * (G.unsqueeze(1) - G).exp()).sum(-1).tril()",
         "Mask the exponent, not the result"),
        ("triu(1)", "triu()", "the diagonal is zero"),
    ],
    "11.3": [
        ("c @ (U.T @ q)", "(c @ U.T) @ q", "as much as making all 200 keys"),
        ("(U.T @ q)", "(U.T @ q) / U.shape[0] ** 0.5", "unscaled"),
        ("c @ (U.T @ q)", "(c @ (U.T @ q)).softmax(0)", "without a softmax"),
    ],
    "11.4": [
        ("    layer.bias[: layer.n_chosen] += 9                      # a crowd\n", "",
         '"right" comes out as "ignores"'),
        ("layer.bias[: layer.n_chosen] += 9 ", "layer.bias += 9 ", "comes out as"),
        ('return "leaks"', "pass", '"leaks" comes out as'),
        ("layer.bias[busiest] > before[busiest]",
         "not torch.equal(layer.bias, before)", "which of your tests does a right layer"),
        ("> before[busiest]", "> 1", "which way does the bias of the busiest"),
        ("scores / scores.sum(-1, keepdim=True)", "weights", "so give it others"),
        ('else "drops"', 'else "right"', "so make a crowd"),
        ('return "runaway"', 'return "the busiest"', "none of the names"),
    ],
    "12.1": [
        (", k * f(h)", ", h + k * f(h)", "still holds what was read"),
        ("k * f(h)", "f(h)", "k is lost"),
        ("return stream.read(state, len(layers))", "return h + k * f(h)",
         "is not the final read"),
        ("write(state, number,", "write(state, 0,", "number the reads"),
        ("h = stream.read(state, number)", "h = stream.read(stream.begin(h), number)",
         "not h + k f(h)"),
    ],
    "12.2": [
        ('"stream" in name.split(".")', 'name.startswith("stream.")',
         "It is two-dimensional and no matrix"),
        ("lr=scale * lr", "lr=lr", "not at scale * lr"),
        ("        dict(params=rest, weight_decay=0.0),\n", "", "is in no group"),
        ("rest.append(parameter)", "rest.append(parameter), matrices.append(parameter)",
         "is in two groups"),
        ("params=rest, weight_decay=0.0", "params=rest, weight_decay=0.1",
         "a norm's or a bias and decays"),
    ],
    "12.3": [
        ("finished + partial", "finished", "also holds its partial sum"),
        ("1 + written[-1]", "written[-1]", "the embedding enters the first block"),
        ("written[-1] //", "(written[-1] + layers_per_block) //", "one too many"),
        ("written[-1] //", "n_blocks //", "different tensors enter"),
    ],
    "12.4": [
        ("row.append(i)", "row = [i]", "of a Llama's block you find"),
        ("layers.append((row, read[i]))", "layers.append((row, 1.0))",
         "the factors are 0.22 and 0.5"),
        ("total[i] = read[i]", "total[i] = 1.0", "0.22 of its attention is refused"),
        ("if read != total or row and read[i] == 0:", "if False:", "passes as"),
        (" or row and read[i] == 0", "", "whose answer nobody uses passes"),
    ],
}

"use strict";

// The three models of the depth lens: attnres_ref/model.py over attnres_ref/streams.py, as
// plain loops. Arrays are flat and row by row: x [T, d] has channel j of token t at t d + j.
//
//     const model = decode(file)                      // one of notebooks/recorded/lens/*.js
//     const answer = forward(model, bytes)            // as the model is
//     forward(model, bytes, edits, answer)            // with weights put in by hand
//
// edits is a Map of "l,i" -> weight by which read l takes source i, at every position.

const DIGITS = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i))
  .filter((c) => c !== '"' && c !== "\\").join("");
const LEVEL_OF = new Int8Array(128);
for (let i = 0; i < DIGITS.length; i++) LEVEL_OF[DIGITS.charCodeAt(i)] = i - 46;

const LAYER_EPS = 1.1920929e-7, KEY_EPS = 1e-5;   // as PyTorch's RMSNorm and our depth read

// The matrices of a file as numbers, Float32Array each. blockSize: layers in a block, for the
// file of the start, which all three models share.
function decode(file, blockSize = file.block_size) {
  const matrices = {};
  for (const [name, { shape, scales, digits }] of Object.entries(file.matrices)) {
    const [rows, columns] = shape, values = new Float32Array(rows * columns);
    for (let i = 0; i < values.length; i++) {
      values[i] = LEVEL_OF[digits.charCodeAt(i)] * scales[Math.floor(i / columns)];
    }
    matrices[name] = values;
  }
  const width = file.matrices.embedding.shape[1], nLayers = file.n_layers;
  // Without queries a read is the plain mean: PreNorm's sum over their number, and the
  // RMSNorm of the layer that follows removes the factor.
  const queries = matrices.queries || new Float32Array((nLayers + 1) * width);
  return { matrices, queries, width, nLayers, blockSize, nHeads: file.n_heads,
    context: file.context, ropeBase: file.rope_base,
    valLoss: file.val_loss, unrounded: file.unrounded };
}

// bytes [T] -> { weights: for each read l, [T, n_l]; chances: [T, 256] of the next byte }.
// past: an answer for the same model and bytes; layers before the first edit that differs
// would come out the same, so they are taken from it.
function forward(model, bytes, edits = new Map(), past = null) {
  const { matrices, queries, width, nLayers } = model;
  const start = past ? firstDifference(edits, past.edits, nLayers) : 0;
  const outputs = past ? past.outputs.slice(0, start + 1) : [embed(model, bytes)];
  const weights = past ? past.weights.slice(0, start) : [];
  for (let l = start; l <= nLayers; l++) {
    const query = queries.subarray(l * width, (l + 1) * width);
    const sources = sourcesOf(outputs, l, model.blockSize);
    weights.push(edited(depthWeights(query, sources), sources.length, l, edits));
    const h = rmsNorm(mix(weights[l], sources), width, LAYER_EPS);
    if (l === nLayers) {
      const logits = matmul(h, matrices.head, width, 256);
      for (let t = 0; t < bytes.length; t++) softmax(logits.subarray(256 * t, 256 * t + 256));
      return { weights, chances: logits, outputs, edits: new Map(edits) };
    }
    outputs.push(`layers.${l}.qkv` in matrices ? attention(model, l, h) : mlp(model, l, h));
  }
}

// The first read at which two Maps of edits differ.
function firstDifference(edits, others, nLayers) {
  const keys = [...edits.keys(), ...others.keys()];
  const differing = keys.filter((key) => edits.get(key) !== others.get(key));
  return Math.min(nLayers, ...differing.map((key) => parseInt(key)));
}

function embed({ matrices, width }, bytes) {
  const x = new Float32Array(bytes.length * width);
  bytes.forEach((byte, t) => x.set(
    matrices.embedding.subarray(byte * width, (byte + 1) * width), t * width));
  return x;
}

// What read l attends to: the embedding, finished blocks, the sum so far of the open one
// (Eq. 6). Blocks of one layer are Full AttnRes.
function sourcesOf(outputs, l, blockSize) {
  const sources = [outputs[0]];
  for (let first = 0; first < l; first += blockSize) {
    const block = outputs[first + 1].slice();
    for (let layer = first + 1; layer < Math.min(first + blockSize, l); layer++) {
      outputs[layer + 1].forEach((v, i) => { block[i] += v; });
    }
    sources.push(block);
  }
  return sources;
}

// Eq. 2-3: softmax over sources of query . RMSNorm(source), [T, n].
function depthWeights(query, sources) {
  const d = query.length, n = sources.length, T = sources[0].length / d;
  const weights = new Float32Array(T * n);
  for (let t = 0; t < T; t++) {
    for (let i = 0; i < n; i++) {
      let product = 0, square = 0;
      for (let j = 0; j < d; j++) {
        const v = sources[i][t * d + j];
        product += query[j] * v;
        square += v * v;
      }
      weights[t * n + i] = product / Math.sqrt(square / d + KEY_EPS);
    }
    softmax(weights.subarray(t * n, (t + 1) * n));
  }
  return weights;
}

// Weights [T, n] of read l with its edits. What is pinned stays, and the model's own other
// weights share the rest; pins that leave no rest are scaled to a sum of one.
function edited(weights, n, l, edits) {
  const pins = new Map();
  for (let i = 0; i < n; i++) {
    if (edits.has(`${l},${i}`)) pins.set(i, edits.get(`${l},${i}`));
  }
  if (!pins.size) return weights;
  let pinned = 0;
  for (const pin of pins.values()) pinned += pin;
  const nothingLeft = pins.size === n || pinned > 1;
  for (let at = 0; at < weights.length; at += n) {
    let free = 0;
    for (let i = 0; i < n; i++) if (!pins.has(i)) free += weights[at + i];
    for (let i = 0; i < n; i++) {
      weights[at + i] = pins.has(i)
        ? pins.get(i) / (nothingLeft ? pinned : 1)
        : nothingLeft ? 0 : weights[at + i] * (1 - pinned) / free;
    }
  }
  return weights;
}

// Eq. 4: the sources themselves, not their keys, by their weights, [T, d].
function mix(weights, sources) {
  const n = sources.length, h = new Float32Array(sources[0].length);
  const d = h.length / (weights.length / n);
  sources.forEach((source, i) => {
    for (let at = 0, t = 0; at < h.length; t++) {
      const weight = weights[t * n + i];
      for (const end = at + d; at < end; at++) h[at] += weight * source[at];
    }
  });
  return h;
}

// The norms' weights are folded into the matrices that follow.
function rmsNorm(x, d, eps) {
  const y = new Float32Array(x.length);
  for (let at = 0; at < x.length; at += d) {
    let square = 0;
    for (let j = at; j < at + d; j++) square += x[j] * x[j];
    const scale = 1 / Math.sqrt(square / d + eps);
    for (let j = at; j < at + d; j++) y[j] = x[j] * scale;
  }
  return y;
}

// x [T, nIn], matrix [nOut, nIn] -> x matrix^T, [T, nOut]. Two tokens meet four rows of the
// matrix at once: eight products for six numbers loaded, twice as fast as one by one. nOut
// is a multiple of four; the last of an odd number of tokens is computed twice.
function matmul(x, matrix, nIn, nOut) {
  const T = x.length / nIn, y = new Float32Array(T * nOut);
  for (let t = 0; t < T; t += 2) {
    const other = Math.min(t + 1, T - 1);
    for (let o = 0; o < nOut; o += 4) {
      const row = o * nIn;
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
      for (let j = 0; j < nIn; j++) {
        const a = x[t * nIn + j], b = x[other * nIn + j];
        const m0 = matrix[row + j], m1 = matrix[row + nIn + j];
        const m2 = matrix[row + 2 * nIn + j], m3 = matrix[row + 3 * nIn + j];
        a0 += a * m0; a1 += a * m1; a2 += a * m2; a3 += a * m3;
        b0 += b * m0; b1 += b * m1; b2 += b * m2; b3 += b * m3;
      }
      const at = t * nOut + o, below = other * nOut + o;
      y[at] = a0; y[at + 1] = a1; y[at + 2] = a2; y[at + 3] = a3;
      y[below] = b0; y[below + 1] = b1; y[below + 2] = b2; y[below + 3] = b3;
    }
  }
  return y;
}

// Causal self-attention of layer l. qkv [T, 3 d] holds queries, keys, values, head by head.
function attention({ matrices, width, nHeads, ropeBase }, l, h) {
  const T = h.length / width, dHead = width / nHeads;
  const qkv = matmul(h, matrices[`layers.${l}.qkv`], width, 3 * width);
  const mixed = new Float32Array(T * width), scores = new Float32Array(T);
  for (let head = 0; head < 2 * nHeads; head++) rope(qkv, 3 * width, head * dHead, dHead, ropeBase);
  for (let head = 0; head < nHeads; head++) {
    const key = width + head * dHead, value = key + width;
    for (let t = 0; t < T; t++) {
      for (let s = 0; s <= t; s++) {
        let score = 0;
        for (let j = 0, q = 3 * width * t + head * dHead, k = 3 * width * s + key; j < dHead; j++) {
          score += qkv[q + j] * qkv[k + j];
        }
        scores[s] = score / Math.sqrt(dHead);
      }
      softmax(scores.subarray(0, t + 1));
      for (let s = 0; s <= t; s++) {
        for (let j = 0, v = 3 * width * s + value, m = width * t + head * dHead; j < dHead; j++) {
          mixed[m + j] += scores[s] * qkv[v + j];
        }
      }
    }
  }
  return matmul(mixed, matrices[`layers.${l}.out`], width, width);
}

// Turn channels j and j + dHead / 2 of one head, from column `first` on, at every position.
function rope(x, nColumns, first, dHead, base) {
  const half = dHead / 2;
  for (let t = 0; t * nColumns < x.length; t++) {
    for (let j = 0; j < half; j++) {
      const angle = t * base ** (-2 * j / dHead), at = t * nColumns + first + j;
      const cos = Math.cos(angle), sin = Math.sin(angle), a = x[at], b = x[at + half];
      x[at] = a * cos - b * sin;
      x[at + half] = b * cos + a * sin;
    }
  }
}

// SwiGLU.
function mlp({ matrices, width }, l, h) {
  const nHidden = matrices[`layers.${l}.gate`].length / width;
  const hidden = matmul(h, matrices[`layers.${l}.gate`], width, nHidden);
  const up = matmul(h, matrices[`layers.${l}.up`], width, nHidden);
  for (let i = 0; i < hidden.length; i++) hidden[i] *= up[i] / (1 + Math.exp(-hidden[i]));
  return matmul(hidden, matrices[`layers.${l}.out`], nHidden, width);
}

// In place.
function softmax(x) {
  let top = -Infinity, sum = 0;
  for (let i = 0; i < x.length; i++) top = Math.max(top, x[i]);
  for (let i = 0; i < x.length; i++) sum += x[i] = Math.exp(x[i] - top);
  for (let i = 0; i < x.length; i++) x[i] /= sum;
}

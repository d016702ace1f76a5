"use strict";

// The triangle of depth weights, drawn for the lens of the site and that of the notebooks.
// A row is a read, a column a source; white is the plain mean, as in plots/film.py.
//
//     triangle(rows, options) -> SVG as a string
//
// rows[l][i] is the weight by which read l takes source i; the last row is the final read.
// options: layers    name of each layer, by default attention and mlp in turn
//          blocks    true where a source is a block of layers, not one layer
//          edits     Map of "l,i" -> weight that was put in the model's place; 0 is a cut
//          selected  "l,i", outlined
//          label     the name of the picture for who cannot see it

// PuOr of ColorBrewer and matplotlib: orange reads less than the mean, purple more.
const PUOR = ["7f3b08", "b35806", "e08214", "fdb863", "fee0b6", "f7f7f7",
  "d8daeb", "b2abd2", "8073ac", "542788", "2d004b"];
const REACH = 2;                         // the scale ends at 2^-2 and 2^2 times the mean
// Sizes: of a row, of the names beside and above the cells, and of all cells in a row.
const HEIGHT = 17, NAMES = 74, TOP = 20, WIDTH = 272;
const LETTERS = { attention: "A", mlp: "M" };
const WORDS = { attention: "attention", mlp: "MLP" };

function triangle(rows, options = {}) {
  const { edits = new Map(), selected, label = "What each layer reads" } = options;
  const columns = Math.max(...rows.map((row) => row.length));
  const width = Math.min(36, WIDTH / columns);
  const x = (source) => NAMES + source * width, y = (read) => TOP + read * HEIGHT;
  const sourceLabel = (source, read) => `<text role="gridcell" class="source"
    data-source="${source}" x="${x(source) + 3}" y="${y(read) + 12}"
    >${shortName(source, options)}<title>${sourceName(source, options)}</title></text>`;

  // The name of a source stands over its first cell: at the end of the row of the layer
  // that wrote it (of the first of its block).
  const first = (source) => rows.findIndex((row) => row.length > source);
  const heads = Array.from({ length: columns }, (_, i) => sourceLabel(i, first(i) - 1));
  const body = rows.map((row, read) => {
    const name = readName(read, rows.length - 1, options);
    const cells = row.map((weight, source) => {
      const at = { x: x(source), y: y(read), width, key: `${read},${source}` };
      return cell(at, weight, row.length, edits.has(at.key), at.key === selected)
        .replace("TITLE", inWords(read, source, row, rows.length - 1, options));
    });
    const next = heads.filter((_, source) => source && first(source) === read + 1);
    return `<g role="row"><text role="rowheader" x="${NAMES - 5}" y="${y(read) + 12}"
      text-anchor="end">${name}</text>${cells.join("")}${next.join("")}</g>`;
  });
  const size = [NAMES + WIDTH + 12, y(rows.length) + 36];
  return `<svg xmlns="http://www.w3.org/2000/svg" class="triangle" role="grid"
    aria-label="${label}" viewBox="0 0 ${size.join(" ")}" width="${size[0]}"
    style="max-width: 100%; height: auto" font-family="system-ui, sans-serif" font-size="11"
    fill="currentColor"><g role="row">${heads[0]}</g>${body.join("")}
    ${legend(NAMES, y(rows.length) + 8)}</svg>`;
}

// One weight. A cut is struck through, a pinned weight wears a ring.
function cell({ x, y, width, key }, weight, nSources, edited, selected) {
  const [read, source] = key.split(","), inner = [x + width / 2, y + HEIGHT / 2];
  const ink = Math.abs(logShare(weight, nSources)) > 1.1 ? "#fff" : "#000";
  const cut = `<path d="M${inner[0] - 5} ${inner[1] - 5}l10 10"/>`;
  const ring = `<circle cx="${inner[0]}" cy="${inner[1]}" r="5"/>`;
  const mark = edited && `<g class="${weight ? "pinned" : "cut"}" fill="none"
    stroke="${ink}" stroke-width="2" pointer-events="none">${weight ? ring : cut}</g>`;
  const outline = selected && `<rect class="selected" x="${x - 0.5}" y="${y - 0.5}"
    width="${width}" height="${HEIGHT}" fill="none" stroke="currentColor" stroke-width="2.5"
    pointer-events="none"/>`;
  return `<rect role="gridcell" data-read="${read}" data-source="${source}" x="${x}"
    y="${y}" width="${width - 1}" height="${HEIGHT - 1}"
    stroke="currentColor" stroke-opacity="0.3" stroke-width="0.5"
    fill="${colour(logShare(weight, nSources))}"><title>TITLE</title></rect>
    ${mark || ""}${outline || ""}`;
}

// log2 of a weight over the plain mean 1 / nSources.
function logShare(weight, nSources) {
  return Math.max(-REACH, Math.min(REACH, Math.log2(weight * nSources)));
}

// A place on PuOr, between its two neighbours.
function colour(log) {
  const place = ((log + REACH) / (2 * REACH)) * (PUOR.length - 1);
  const low = Math.min(Math.floor(place), PUOR.length - 2), part = place - low;
  const channel = (anchor, c) => parseInt(anchor.slice(2 * c, 2 * c + 2), 16);
  const mixed = [0, 1, 2].map((c) => Math.round(
    (1 - part) * channel(PUOR[low], c) + part * channel(PUOR[low + 1], c)));
  return `rgb(${mixed.join(", ")})`;
}

function legend(x, y) {
  const step = 22, wide = step * PUOR.length;
  const patches = PUOR.map((_, i) => `<rect x="${x + i * step}" y="${y}" width="${step}"
    height="9" fill="${colour((i / (PUOR.length - 1) * 2 - 1) * REACH)}"/>`);
  const words = [["start", 0, "¼ of the mean"], ["middle", wide / 2, "plain mean"],
    ["end", wide, "4 × the mean"]];
  return `<g class="legend" aria-hidden="true">${patches.join("")}${words.map(
    ([anchor, dx, word]) => `<text x="${x + dx}" y="${y + 21}" text-anchor="${anchor}"
    >${word}</text>`).join("")}</g>`;
}

function kindOf(layer, { layers }) {
  return layers ? layers[layer] : ["attention", "mlp"][layer % 2];
}

// "attention 0", "MLP 1", ..., "final read".
function readName(read, nLayers, options = {}) {
  const kind = kindOf(read, options);
  return read === nLayers ? "final read" : `${WORDS[kind] || kind} ${read}`;
}

// "the embedding", then "attention 0", ... or "block 1", ...
function sourceName(source, options = {}) {
  if (source === 0) return "the embedding";
  return options.blocks ? `block ${source}` : readName(source - 1, Infinity, options);
}

// "embedding", then "A0", "M1", ... or "block 1", ...
function shortName(source, options = {}) {
  if (source === 0 || options.blocks) return sourceName(source, options).replace("the ", "");
  const kind = kindOf(source - 1, options);
  return `${LETTERS[kind] || kind[0].toUpperCase()}${source - 1}`;
}

// "MLP 5 reads the embedding by 0.31, 2.4 times the plain mean"
function inWords(read, source, row, nLayers, options = {}) {
  const reader = readName(read, nLayers, options).replace("final", "the final");
  const times = row[source] * row.length;
  if (times === 0) return `${reader} reads nothing of ${sourceName(source, options)}`;
  const share = Math.abs(times - 1) < 0.005
    ? "the plain mean" : `${times.toPrecision(2)} times the plain mean`;
  return `${reader} reads ${sourceName(source, options)} by ${row[source].toFixed(2)}, ${share}`;
}

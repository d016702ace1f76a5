"use strict";

// What the page shows, and the link that brings it back.

const STEPS = [0, 20, 70, 200, 700, 2000];
const REACH_BACK = 128;                  // the models read as many bytes
const RESIDUALS = { prenorm: "PreNorm", block: "Block AttnRes", full: "Full AttnRes" };
const START = {
  text: `def __init__(self, name, size):
    self.name = name
    self.size = size
    self.data = []`,
  residual: "full",
  step: 2000,
  at: 38,                    // the byte whose reads are shown
  edits: new Map(),          // "l,i" -> weight of source i in read l
  selected: null,            // "l,i" of the cell whose panel is open
};

// Of a long text, a link holds what a model can read; a character is a byte or more.
function linkTo({ text, residual, step, at, edits, selected }) {
  const end = [...text].slice(-REACH_BACK).join("");
  const parts = new URLSearchParams({ text: end, residual, step, at });
  if (edits.size) parts.set("edits", [...edits].map(([key, w]) => `${key}=${w}`).join(" "));
  if (selected) parts.set("cell", selected);
  return `#${parts}`;
}

// The state in a link, and the names of the parts that made no sense and were left out.
function readLink(hash) {
  const state = { ...START, edits: new Map() }, refused = [];
  const readers = {
    text: (value) => value.replace(/\r\n?/g, "\n") || undefined,   // as a text area has it
    residual: (value) => (Object.hasOwn(RESIDUALS, value) ? value : undefined),
    step: (value) => STEPS.find((step) => String(step) === value),
    at: (value) => (/^\d{1,3}$/.test(value) ? Number(value) : undefined),
    edits: readEdits,
    cell: (value) => (isCell(value) ? value : undefined),
  };
  for (const [name, value] of new URLSearchParams(hash.slice(1))) {
    const found = Object.hasOwn(readers, name) ? readers[name](value) : undefined;
    if (found === undefined) refused.push(name);
    else state[name === "cell" ? "selected" : name] = found;
  }
  return { state, refused };
}

function readEdits(value) {
  const edits = new Map();
  for (const part of value.split(" ")) {
    const [key, weight] = part.split("=");
    if (!isCell(key) || !/^(0|1|0?\.\d+)$/.test(weight)) return undefined;
    edits.set(key, Number(weight));
  }
  return edits;
}

// A read and a source that Full AttnRes of 16 layers has; the page drops those that the
// model at hand has not.
function isCell(key) {
  const [, read, source] = key.match(/^(0|[1-9]\d?),(0|[1-9]\d?)$/) || [];
  return Number(read) <= 16 && Number(source) <= Number(read);
}

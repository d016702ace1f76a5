"use strict";

// The page: what is shown follows from `state` (link.js); whoever changes it calls `show`.

const BLOCK_SIZE = 4;                   // of the Block model, also before it was trained
const N_BARS = 8;
const $ = (id) => document.getElementById(id);
const page = document.documentElement;

let state;                              // see START
let bytes, model;                       // what the answers below were computed from
let plain, answer;                      // of the model as it is, and under the edits
let hovered = null;                     // a byte that the mouse is on
let cursor = [0, 0];                    // row and place of the grid's cell in the tab order

// --- The models: scripts that call depthLens, because from a disk a page may load no data.

const files = new Map(), fetches = new Map(), models = new Map();

function depthLens(file) {
  files.set(`${file.residual}_${file.step}`, file);
}

function fetchFile(name) {
  if (!fetches.has(name)) {
    fetches.set(name, new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `weights/${name}.js`;
      script.onload = resolve;
      script.onerror = () => {
        fetches.delete(name);           // another try may find it
        reject(new Error(`weights/${name}.js is missing beside this page, so the model cannot
          answer. Copy the whole folder of the page, or build it again with "make site".`));
      };
      document.head.append(script);
    }));
  }
  return fetches.get(name);
}

async function modelOf(residual, step) {
  const key = `${residual}_${step}`, name = step === 0 ? "all_0" : key;
  if (!models.has(key)) {
    await fetchFile(name);
    models.set(key, decode(files.get(name), residual === "block" ? BLOCK_SIZE : 1));
  }
  return models.get(key);
}

// The other moments of this model, one after another, when nothing else is to be done.
function fetchInIdleTime() {
  const idle = window.requestIdleCallback || ((run) => setTimeout(run, 200));
  const next = STEPS.find((step) => step && !fetches.has(`${state.residual}_${step}`));
  if (next) idle(() => fetchFile(`${state.residual}_${next}`).then(fetchInIdleTime, () => {}));
}

// --- From a state to an answer.

async function show(change = {}) {
  const before = state;
  state = { ...state, ...change };
  if (before && (before.residual === "block") !== (state.residual === "block")) dropEdits();
  drawControls();
  try {
    const [residual, step] = [state.residual, state.step];
    const loaded = await modelOf(residual, step);
    if (residual !== state.residual || step !== state.step) return;    // overtaken
    compute(loaded, lastBytes(state.text, loaded.context));
    draw();
  } catch (error) {
    warn(error.message);
  }
}

function lastBytes(text, context) {
  return new TextEncoder().encode(text).slice(-context);
}

function compute(wanted, itsBytes) {
  const same = model === wanted && String(bytes) === String(itsBytes);
  if (!same) {
    [model, bytes] = [wanted, itsBytes];
    const start = performance.now();
    plain = answer = forward(model, bytes);
    const took = Math.round(performance.now() - start);
    $("speed").textContent = `These ${bytes.length} bytes took ${took} ms.`;
  }
  state.at = Math.min(state.at, bytes.length - 1);
  keepPossibleEdits();
  answer = state.edits.size ? forward(model, bytes, state.edits, answer) : plain;
}

// The edits of a link may name reads that this model has not, or leave a read nothing.
function keepPossibleEdits() {
  for (const key of state.edits.keys()) if (!hasCell(key)) state.edits.delete(key);
  for (const key of state.edits.keys()) if (leavesNothing(state.edits, key)) state.edits.delete(key);
  if (state.selected && !hasCell(state.selected)) state.selected = null;
}

function sourcesIn(read) {
  return plain.weights[read].length / bytes.length;
}

function hasCell(key) {
  const [read, source] = key.split(",").map(Number);
  return source < sourcesIn(read);
}

function rowsAt(result, t) {
  return result.weights.map((w) => {
    const n = w.length / bytes.length;
    return [...w.subarray(t * n, (t + 1) * n)];
  });
}

// --- Drawing.

function draw() {
  drawCharacters();
  drawReads();
  drawNext();
  if (!performance.getEntriesByName("first answer").length) {
    performance.mark("first answer");
    fetchInIdleTime();
  }
  clearTimeout(draw.later);             // browsers refuse a link that changes too often
  draw.later = setTimeout(() => history.replaceState(null, "", linkTo(state)), 150);
}

function drawControls() {
  page.style.setProperty("--own", `var(--${state.residual})`);
  for (const radio of document.getElementsByName("residual")) {
    radio.checked = radio.value === state.residual;
  }
  $("step").value = STEPS.indexOf(state.step);
  $("step").setAttribute("aria-valuetext", `step ${state.step}`);
  if ($("text").value !== state.text) $("text").value = state.text;
}

function drawCharacters() {
  const options = [...bytes].map((byte, t) => `<span role="option" id="byte-${t}"
    class="${byte === 32 || byte === 10 ? "marks" : ""}" aria-selected="${t === state.at}"
    aria-label="${escaped(named(byte))}" data-t="${t}">${escaped(glyph(byte, "·"))}</span>`
    + (byte === 10 ? '</div><div class="row" role="presentation">' : ""));
  $("characters").innerHTML = `<div class="row" role="presentation">${options.join("")}</div>`;
  $("characters").setAttribute("aria-activedescendant", `byte-${state.at}`);
  const left = new TextEncoder().encode(state.text).length - bytes.length;
  $("text-note").textContent = left
    ? `The model reads the last ${bytes.length} bytes; the first ${left} are left out.` : "";
}

function seen() {
  return hovered ?? state.at;
}

function pictureOptions() {
  return { blocks: model.blockSize > 1, edits: state.edits, selected: state.selected };
}

function drawReads() {
  const held = $("triangle").contains(document.activeElement);
  const label = `What each layer reads for ${named(bytes[seen()])}`;
  $("triangle").innerHTML = triangle(
    rowsAt(answer, seen()), { ...pictureOptions(), label: escaped(label) });
  moveCursor(...cursor, held);
  document.querySelectorAll(".shown").forEach((e) => e.classList.remove("shown"));
  $(`byte-${seen()}`).classList.add("shown");
  $("moment").textContent = `${state.step}, validation loss ${model.valLoss.toFixed(2)}`;
  $("losses").textContent = `${model.valLoss.toFixed(3)} nats per byte`;
  drawPanel();
}

function drawPanel() {
  $("panel").hidden = !state.selected;
  drawCell(state.selected);
  if (!state.selected) return;
  const [read, source] = state.selected.split(",");
  const weight = state.edits.get(state.selected) ?? rowsAt(answer, seen())[read][source];
  $("pin").value = weight;
  $("pinned").textContent = weight.toFixed(2);
}

// A cell in words; without one, what can be done with a cell.
function drawCell(key) {
  $("cell").hidden = !key;
  $("triangle-hint").hidden = Boolean(key);
  if (!key) return;
  const [read, source] = key.split(",").map(Number);
  const row = rowsAt(answer, seen())[read];
  $("cell").textContent = `${capital(inWords(read, source, row, model.nLayers, pictureOptions()))}.`;
}

function drawNext() {
  const t = seen(), chancesOf = (result) => result.chances.subarray(256 * t, 256 * (t + 1));
  const before = chancesOf(plain), now = chancesOf(answer), actual = bytes[t + 1];
  const most = (byte) => Math.max(before[byte], now[byte]);
  const order = [...before.keys()].sort((a, b) => most(b) - most(a)).slice(0, N_BARS);
  const width = (chance) => `style="width: ${(100 * chance).toFixed(1)}%"`;
  $("bars").innerHTML = order.map((byte) => `<li class="${byte === actual ? "actual" : ""}">
    <span class="glyph" title="${escaped(named(byte))}">${escaped(glyph(byte, "␣"))}</span>
    <span class="track"><span class="now" ${width(now[byte])}></span>${state.edits.size
      ? `<span class="before" ${width(before[byte])}></span>` : ""}</span>
    <span>${chance(now[byte])}</span></li>`).join("");
  $("change").textContent = sentence(before, now, actual ?? order[0], actual === undefined);
}

function sentence(before, now, byte, atEnd) {
  const what = atEnd ? "the likeliest next byte" : "the actual next byte";
  const [old, new_] = [before[byte], now[byte]].map(chance);
  if (!state.edits.size) {
    return `The model gives ${what}, ${named(byte)}, a chance of ${new_}.`;
  }
  const course = old === new_ ? `stays at ${new_}`
    : `${now[byte] > before[byte] ? "rises" : "falls"} from ${old} to ${new_}`;
  const whole = bytes.length < 2 ? "" : ` Over the whole text, the loss goes from ${
    loss(plain).toFixed(2)} to ${loss(answer).toFixed(2)} nats per byte.`;
  return `The chance of ${what}, ${named(byte)}, ${course}.${whole}`;
}

// Mean -log chance of each byte but the first.
function loss({ chances }) {
  let sum = 0;
  for (let t = 1; t < bytes.length; t++) sum -= Math.log(chances[256 * (t - 1) + bytes[t]]);
  return sum / (bytes.length - 1);
}

// --- Words.

function chance(p) {
  return p >= 0.01 ? p.toFixed(2) : p >= 0.001 ? p.toFixed(3) : "< 0.001";
}

function glyph(byte, space) {
  if (byte === 10) return "↵";
  if (byte === 32) return space;
  const printable = byte > 32 && byte < 127;
  return printable ? String.fromCharCode(byte) : byte.toString(16).padStart(2, "0");
}

function named(byte) {
  if (byte === 32) return "a space";
  if (byte === 10) return "a new line";
  return byte > 32 && byte < 127 ? `“${glyph(byte)}”` : `byte ${glyph(byte)}`;
}

function escaped(text) {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

function say(words) {
  $("said").textContent = words;
}

function warn(words) {
  $("notice").hidden = !words;
  $("notice").textContent = words;
}

// --- Edits.

// Would a read have no source left, once these edits hold?
function leavesNothing(edits, key) {
  const read = key.split(",")[0];
  const pins = Array.from({ length: sourcesIn(read) }, (_, i) => edits.get(`${read},${i}`));
  return pins.every((pin) => pin === 0);
}

function edit(key, weight) {
  const edits = new Map(state.edits).set(key, weight);
  const last = leavesNothing(edits, key);
  say(last ? "This is the last source that the read has left: release another one first." : "");
  show(last ? {} : { edits });
}

function release(key) {
  const edits = new Map(state.edits);
  edits.delete(key);
  say("");
  show({ edits });
}

// Cut a source from every read that has another one left, or release it everywhere.
function cutEverywhere(source) {
  const edits = new Map(state.edits), refused = [];
  const keys = answer.weights.map((_, read) => `${read},${source}`).filter(hasCell);
  const possible = keys.filter((key) => sourcesIn(parseInt(key)) > 1);
  const back = possible.every((key) => edits.get(key) === 0);
  for (const key of keys) {
    if (back) edits.delete(key);
    else if (leavesNothing(new Map(edits).set(key, 0), key)) refused.push(key);
    else edits.set(key, 0);
  }
  const what = sourceName(source, pictureOptions());
  const kept = refused.map((key) => readName(parseInt(key), model.nLayers)).join(", ");
  say(`${capital(what)} is ${back ? "read again as before" : "cut from every read"}${
    kept ? `, but for ${kept}, which would have nothing left to read` : ""}.`);
  show({ edits });
}

// The columns of Block are other sources than those of PreNorm and Full.
function dropEdits() {
  if (state.edits.size) say("The edits are undone, because this model has other sources.");
  state.edits = new Map();
  state.selected = null;
}

// --- Mouse, keys, controls.

function gridRows() {
  return [...$("triangle").querySelectorAll('[role="row"]')]
    .map((row) => [...row.querySelectorAll('[role="gridcell"]')]);
}

// Put the one cell of the grid that is in the tab order.
function moveCursor(row, place, focus) {
  const rows = gridRows();
  row = Math.max(0, Math.min(row, rows.length - 1));
  place = Math.max(0, Math.min(place, rows[row].length - 1));
  cursor = [row, place];
  rows.flat().forEach((e) => e.setAttribute("tabindex", -1));
  rows[row][place].setAttribute("tabindex", 0);
  if (focus) rows[row][place].focus();
}

function keyOf(element) {
  const { read, source } = element.closest("[data-source]")?.dataset ?? {};
  return read === undefined ? null : `${read},${source}`;
}

function press(element) {
  const cell = element.closest("[data-source]");
  if (!cell) return;
  const rows = gridRows(), row = rows.findIndex((r) => r.includes(cell));
  cursor = [row, rows[row].indexOf(cell)];
  const key = keyOf(cell);
  if (key === null) cutEverywhere(Number(cell.dataset.source));
  else show({ selected: key === state.selected ? null : key });
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function keyInTriangle(event) {
  if (event.key in ARROWS) {
    const [down, right] = ARROWS[event.key];
    moveCursor(cursor[0] + down, cursor[1] + right, true);
  } else if (event.key === "Enter" || event.key === " ") {
    press(event.target);
  } else {
    return;
  }
  event.preventDefault();
}

function keyInText(event) {
  const to = { ArrowLeft: state.at - 1, ArrowRight: state.at + 1, Home: 0,
    End: bytes.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  show({ at: Math.max(0, Math.min(to, bytes.length - 1)) });
}

function hover(t) {
  if (t === hovered || !answer) return;
  hovered = t;
  drawReads();
  drawNext();
}

function type() {
  const text = $("text").value;
  if (!text) $("text-note").textContent = "The model needs at least one byte to read.";
  else show({ text, at: lastBytes(text, model.context).length - 1 });
}

async function copyLink() {
  history.replaceState(null, "", linkTo(state));
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link to this view is copied.");
  } catch {                             // not allowed here, for instance in a frame
    $("link").hidden = false;
    $("link").querySelector("input").value = location.href;
    $("link").querySelector("input").select();
  }
}

function addLessons() {
  for (const { name, words, ...view } of LESSONS) {
    const button = document.createElement("button");
    button.textContent = name;
    button.onclick = () => {
      say("");
      $("lesson").textContent = words;
      show({ ...START, ...view, edits: new Map(view.edits) });
    };
    $("lessons").append(button);
  }
}

function listen() {
  const characters = $("characters"), grid = $("triangle");
  const byteAt = (event) => event.target.closest("[data-t]")?.dataset.t;
  characters.onmouseover = (event) => hover(byteAt(event) === undefined ? null : +byteAt(event));
  characters.onmouseleave = () => hover(null);
  characters.onclick = (event) => byteAt(event) !== undefined && show({ at: +byteAt(event) });
  characters.onkeydown = keyInText;
  grid.onmouseover = (event) => drawCell(keyOf(event.target) ?? state.selected);
  grid.onmouseleave = () => drawCell(state.selected);
  grid.onfocusin = (event) => drawCell(keyOf(event.target) ?? state.selected);
  grid.onclick = (event) => press(event.target);
  grid.onkeydown = keyInTriangle;
  $("text").oninput = type;
  $("residuals").onchange = (event) => show({ residual: event.target.value });
  $("step").oninput = () => show({ step: STEPS[$("step").value] });
  $("cut").onclick = () => edit(state.selected, 0);
  $("pin").oninput = () => edit(state.selected, Number($("pin").value));
  $("release").onclick = () => release(state.selected);
  $("undo").onclick = () => { say("All edits are undone."); show({ edits: new Map() }); };
  $("copy").onclick = copyLink;
}

function begin() {
  page.classList.toggle("embed", new URLSearchParams(location.search).has("embed"));
  const { state: linked, refused } = readLink(location.hash);
  addLessons();
  listen();
  if (refused.length) {
    warn(`Part of the link could not be read and was left out: ${refused.join(", ")}.`);
  }
  show(linked);
}

begin();

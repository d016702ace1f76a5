"use strict";

// What the page shows of `answer`. Nothing here changes the state.

const N_BARS = 8;
const $ = (id) => document.getElementById(id);

let hovered = null;                     // a byte that the mouse is on
let cursor = [0, 0];                    // row and place of the grid's cell in the tab order
let linkTimer;                          // browsers refuse a link that changes too often

function draw() {
  drawCharacters();
  drawReads();
  drawNext();
  if (!performance.getEntriesByName("first answer").length) {
    performance.mark("first answer");
    fetchInIdleTime();
  }
  clearTimeout(linkTimer);
  linkTimer = setTimeout(() => history.replaceState(null, "", linkTo(state)), 150);
}

function drawControls() {
  document.documentElement.style.setProperty("--own", `var(--${state.residual})`);
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

// The byte whose reads and chances are drawn; the text may have shrunk under the mouse.
function seen() {
  return Math.min(hovered ?? state.at, bytes.length - 1);
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
  $("losses").textContent = `${model.valLoss.toFixed(3)} nats per byte, before the rounding ${
    model.unrounded.val_loss.toFixed(3)}`;
  drawPanel();
}

function drawPanel() {
  $("panel").disabled = !state.selected;
  drawCell(state.selected);
  if (!state.selected) {
    $("pin").value = 0;
    $("pinned").textContent = "";
    return;
  }
  const [read, source] = state.selected.split(",");
  const weight = state.edits.get(state.selected) ?? rowsAt(answer, seen())[read][source];
  $("pin").value = weight;
  $("pinned").textContent = weight.toFixed(2);
}

// A cell in words; without one, what can be done with a cell.
function drawCell(key) {
  $("cell").hidden = !key;
  $("cell-hint").hidden = Boolean(key);
  if (!key) return;
  const [read, source] = key.split(",").map(Number);
  const row = rowsAt(answer, seen())[read];
  const words = inWords(read, source, row, model.nLayers, pictureOptions());
  $("cell").textContent = `${capital(words)}.`;
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
    <span>${escaped(chance(now[byte]))}</span></li>`).join("");
  $("change").textContent = sentence(before, now, actual ?? order[0], actual === undefined);
}

// What became of the chance of `byte`, and of the whole text.
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
  return `The chance of ${what}, ${named(byte)}, ${course}.${whole} Outlines show the chances
    without the edits.`;
}

// Mean -log chance of each byte but the first.
function loss({ chances }) {
  let sum = 0;
  for (let t = 1; t < bytes.length; t++) sum -= Math.log(chances[256 * (t - 1) + bytes[t]]);
  return sum / (bytes.length - 1);
}

// --- Words.

function chance(p) {
  return p >= 0.01 ? p.toFixed(2) : p >= 0.001 ? p.toFixed(3) : "<0.001";
}

// As one character; `space` stands for what has none.
function glyph(byte, space) {
  if (byte === 10) return "↵";
  if (byte === 32) return space;
  if (byte === 9) return "⇥";
  const printable = byte > 32 && byte < 127;
  return printable ? String.fromCharCode(byte) : byte.toString(16).padStart(2, "0");
}

// In words.
function named(byte) {
  if (byte === 32) return "a space";
  if (byte === 9) return "a tab";
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

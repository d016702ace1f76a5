"use strict";

// Mouse, keys and controls: each changes the state by a call of `show`.

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

// Cut a source from every read that has another one left; if that is done, undo it.
function cutEverywhere(source) {
  const edits = new Map(state.edits);
  const keys = answer.weights.map((_, read) => `${read},${source}`).filter(hasCell);
  const refused = keys.filter((key) => leavesNothing(new Map(edits).set(key, 0), key));
  const allowed = keys.filter((key) => !refused.includes(key));
  const back = allowed.every((key) => edits.get(key) === 0);
  for (const key of allowed) back ? edits.delete(key) : edits.set(key, 0);
  const what = sourceName(source, pictureOptions());
  const kept = refused.map((key) => readName(parseInt(key), model.nLayers)).join(", ");
  const but = kept && `, but for ${kept}, which would have nothing left to read`;
  say(`${capital(what)} is ${back ? "read again as before" : `cut from every read${but}`}.`);
  show({ edits });
}

// The columns of Block are other sources than those of PreNorm and Full.
function switchTo(residual) {
  const sameSources = (residual === "block") === (state.residual === "block");
  const undone = !sameSources && state.edits.size;
  say(undone ? "The edits are undone, because this model has other sources." : "");
  show(sameSources ? { residual } : { residual, edits: new Map(), selected: null });
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

// For fingers, which are larger than a cell: open the cell beside the one that is open.
function stepAside(key) {
  const [read, source] = state.selected.split(",").map(Number), [down, right] = ARROWS[key];
  const beside = `${read + down},${source + right}`;
  if (hasCell(beside)) show({ selected: beside });
}

function keyInText(event) {
  const to = { ArrowLeft: Math.max(0, state.at - 1), ArrowRight: state.at + 1, Home: 0,
    End: Infinity }[event.key];        // the last byte, where it is more than there are
  if (to === undefined) return;
  event.preventDefault();
  hovered = null;                       // the mouse may rest on another one
  show({ at: to });
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
  else show({ text, at: Infinity });
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
      for (const each of $("lessons").children) each.ariaCurrent = each === button;
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
  // Not onmouseover, which also fires where the text is drawn anew under a resting mouse.
  characters.onmousemove = (event) => hover(byteAt(event) === undefined ? null : +byteAt(event));
  characters.onmouseleave = () => hover(null);
  characters.onclick = (event) => byteAt(event) !== undefined && show({ at: +byteAt(event) });
  characters.onkeydown = keyInText;
  grid.onmouseover = (event) => drawCell(keyOf(event.target) ?? state.selected);
  grid.onmouseleave = () => drawCell(state.selected);
  grid.addEventListener("focusin",
    (event) => drawCell(keyOf(event.target) ?? state.selected));
  grid.onclick = (event) => press(event.target);
  grid.onkeydown = keyInTriangle;
  $("text").oninput = type;
  $("residuals").onchange = (event) => switchTo(event.target.value);
  $("step").oninput = () => show({ step: STEPS[$("step").value] });
  $("cut").onclick = () => edit(state.selected, 0);
  $("pin").oninput = () => edit(state.selected, Number($("pin").value));
  $("release").onclick = () => release(state.selected);
  for (const button of $("steps-aside").children) {
    button.onclick = () => stepAside(button.dataset.key);
  }
  $("undo").onclick = () => { say("All edits are undone."); show({ edits: new Map() }); };
  $("copy").onclick = copyLink;
  window.onhashchange = openLink;       // another link, pasted over this one
}

async function openLink() {
  const { state: linked, refused } = readLink(location.hash);
  await show(linked);
  if (refused.length && $("notice").hidden) {
    warn(`Part of the link could not be read and was left out: ${refused.join(", ")}.`);
  }
}

const embedded = new URLSearchParams(location.search).has("embed");
document.documentElement.classList.toggle("embed", embedded);
addLessons();
listen();
openLink();

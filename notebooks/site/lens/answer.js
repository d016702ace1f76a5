"use strict";

// From what is asked, `state`, to what the page draws: the weights and chances of `answer`.

const BLOCK_SIZE = 4;                   // of the Block model, also before it was trained

let state;                              // see START in link.js; `show` changes it
let bytes, model;                       // what the answers below were computed from
let plain, answer;                      // of the model as it is, and under the edits

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
  state = { ...state, ...change };
  drawControls();
  document.body.classList.add("waiting");
  try {
    const [residual, step] = [state.residual, state.step];
    const loaded = await modelOf(residual, step);
    if (residual !== state.residual || step !== state.step) return;    // overtaken
    compute(loaded, lastBytes(state.text, loaded.context));
    draw();
    document.body.classList.remove("waiting");
    warn("");
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
  for (const key of state.edits.keys()) {
    if (!hasCell(key) || leavesNothing(state.edits, key)) state.edits.delete(key);
  }
  if (state.selected && !hasCell(state.selected)) state.selected = null;
}

function sourcesIn(read) {
  return plain.weights[read].length / bytes.length;
}

function hasCell(key) {
  const [read, source] = key.split(",").map(Number);
  return read in plain.weights && source >= 0 && source < sourcesIn(read);
}

function rowsAt(result, t) {
  return result.weights.map((w) => {
    const n = w.length / bytes.length;
    return [...w.subarray(t * n, (t + 1) * n)];
  });
}

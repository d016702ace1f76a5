
// The depth lens of a notebook, after triangle.js. `this` is the still, which has loaded; its
// box gets a tree of its own, so that no style sheet around it reaches in. Where this cannot
// run, the still stays.
this.onload = null;
const box = this.parentNode;
const known = JSON.parse(box.querySelector("script").textContent);
const HINT = "Point at a cell, and its weight is written here.";
const root = box.attachShadow({ mode: "open" });
root.innerHTML = `<style>
  :host { display: block; box-sizing: border-box; padding: 12px; border-radius: 4px;
    background: #fff; color: #111; font: 15px/1.4 system-ui, sans-serif; text-align: left; }
  p { margin: 0 0 8px; }
  .text { line-height: 1.8; overflow-wrap: anywhere; }
  button { all: unset; font: 16px ui-monospace, monospace; padding: 2px 0; cursor: pointer; }
  button.white { color: #6b6b6b; }
  button:focus-visible { outline: 2px solid #0b62b8; outline-offset: 1px; }
  button[aria-pressed=true] { background: #111; color: #fff; }
  button.seen:not([aria-pressed=true]) { background: #d5d5d5; color: #111; }
  .parts { display: flex; flex-wrap: wrap; gap: 8px 28px; }
  .reads { flex: 0 1 362px; }
  .note { min-height: 2.8em; font-size: 14px; }
  .next { flex: 1 1 220px; display: grid; align-content: start; gap: 5px 8px;
    grid-template-columns: max-content 1fr; }
  .next p { grid-column: 1 / -1; }
  .next b { font: 16px ui-monospace, monospace; }
  .bar { display: inline-block; height: 12px; background: #595959; margin-right: 6px; }
  .came .bar { background: #d55e00; }
</style>
<p>Point at a character of the text, or click it to stay there; the arrow keys move on.</p>
<p class="text" role="group" aria-label="characters of the text"></p>
<div class="parts">
  <div class="reads"><div class="drawn"></div><p class="note">${HINT}</p></div>
  <div class="next"></div>
</div>`;
const [line, drawn, note, next] = [".text", ".drawn", ".note", ".next"].map(
  (part) => root.querySelector(part));
drawn.onpointerover = ({ target }) => {
  note.textContent = target.querySelector("title")?.textContent ?? HINT;
};

const buttons = known.text.map((label, i) => {
  const button = make("button", line, { type: "button", textContent: label });
  if (label in known.names) {
    button.className = "white";
    button.ariaLabel = known.names[label];
  }
  if (button.ariaLabel === "newline") make("br", line);
  button.onpointerenter = () => show(i);
  button.onfocus = button.onclick = () => keep(i);
  return button;
});
let kept = known.at;
line.onpointerleave = () => show(kept);
line.onkeydown = (event) => {
  const move = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  if (!move) return;
  event.preventDefault();
  event.stopPropagation();                // a deck would turn its page
  buttons[Math.max(0, Math.min(kept + move, buttons.length - 1))].focus();
};
keep(kept);

// One character is the chosen one, and the one which Tab reaches.
function keep(i) {
  kept = i;
  buttons.forEach((button, j) => {
    button.tabIndex = j === i ? 0 : -1;
    button.ariaPressed = j === i;
  });
  show(i);
}

function show(i) {
  buttons.forEach((button, j) => button.classList.toggle("seen", j === i));
  // No weight of a softmax is nothing, though it may round to none.
  const rows = known.weights[i].map((row) => row.map((weight) => (weight || 0.4) / 1000));
  drawn.innerHTML = triangle(rows, known);
  drawn.firstChild.ariaLabel = `What each layer reads at character ${i + 1}`;
  next.replaceChildren();
  make("p", next, { textContent: "The next byte, as the model expects it" });
  for (const [name, chance, came] of known.next[i]) {
    make("b", next, { textContent: name });
    const value = make("span", next, { className: came ? "came" : "" });
    make("span", value, { className: "bar" }).style.width = `${chance / 20}%`;
    value.append(`${(chance / 10).toFixed(1)} %${came ? " ← in the text" : ""}`);
  }
}

function make(tag, parent, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

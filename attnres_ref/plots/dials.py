"""Notebook 10's five dials: how a step slows down as links do, for any P, V, M and N.

So that positions can be compared, a tensor's time on a link is a share of the whole model's
forward pass over a micro-batch, and the step is divided by the time that a rank computes.
Every number is computed here, by `simulate`, and travels with the page; what runs in the
reader's browser only looks numbers up and draws them.
"""

import functools
import html
import itertools
import json

from matplotlib.figure import Figure

from attnres_ref.pipeline.layout import MODES, Layout
from attnres_ref.pipeline.simulate import simulate
from attnres_ref.plots import GREY, axes, png
from attnres_ref.plots.pipeline import MODE_STYLES

N_LAYERS = 32
# name: what it is, its positions. DRAW has room for links of 0 to 8 and for SCALE from 1
# to 4: change its x and y with them.
DIALS = {
    "P": ("ranks", (2, 4, 8)),
    "V": ("virtual stages", (1, 2, 4)),
    "M": ("micro-batches", (8, 16, 32)),
    "N": ("blocks", (4, 8, 16)),
    "link": ("time of a tensor on a link, %", (0, 1, 2, 4, 8)),
}
LINKS = DIALS["link"][1]
SCALE = 1, 2, 3, 4                     # lines that go higher leave the picture

# Of the box around the dials, on every input; the picture calls it once, when it is there.
DRAW = """
const known = JSON.parse(this.querySelector('script').textContent);
const at = [...this.querySelectorAll('input')].map(input => +input.value);
const set = known.dials.map((positions, i) => positions[at[i]]);
this.querySelectorAll('output').forEach((output, i) => output.textContent = set[i]);
const steps = at.slice(0, 4).reduce((table, i) => table[i], known.steps);
const x = link => 50 + 55 * link, y = step => 330 - 90 * (step - 1);
const text = (left, top, words, more) =>
  `<text x="${left}" y="${top}" ${more || ''}>${words}</text>`;
let svg = text(10, 24, 'step / time that a rank computes') +
  text(270, 376, 'time of a tensor on a link, % of the whole forward pass',
       'text-anchor="middle"');
for (const tick of known.scale)
  svg += `<path d="M50 ${y(tick)}H500" stroke="#ddd"/>` +
    text(40, y(tick) + 5, tick, 'text-anchor="end"');
for (const link of known.dials[4])
  svg += text(x(link), 352, link, 'text-anchor="middle"');
svg += `<path d="M${x(set[4])} 50V330" stroke="${known.grey}" stroke-dasharray="4"/>`;
const top = known.scale.at(-1);
let names = '';                         // over all lines, with a white rim
steps.forEach((line, i) => {
  const points = line.map((step, j) => `${x(known.dials[4][j])},${y(step)}`).join(' ');
  const [label, colour] = known.modes[i];
  svg += `<svg y="${y(top)}" width="520" height="384" viewBox="0 ${y(top)} 520 384">` +
    `<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="3"/></svg>` +
    (line[at[4]] > top ? '' :
      `<circle cx="${x(set[4])}" cy="${y(line[at[4]])}" r="6" fill="${colour}"/>`);
  names += `<path d="M66 ${78 + 24 * i}h28" stroke="${colour}" stroke-width="3"/>` +
    text(104, 83 + 24 * i, `${label}: ${line[at[4]].toFixed(2)}`,
         'stroke="#fff" stroke-width="6" paint-order="stroke"');
});
this.querySelector('img').src = 'data:image/svg+xml,' + encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 520 384" ' +
  'font-family="sans-serif" font-size="15"><rect width="520" height="384" fill="#fff"/>' +
  svg + names + '</svg>');
"""
DIAL = (
    '<label style="display: flex; flex-wrap: wrap; gap: 0 1em">'
    '<span style="flex: 1 0 14em">{words}: <output>{value}</output></span>'
    '<input type="range" min="0" max="{last}" value="{at}" style="flex: 2 0 9em"></label>'
)


def steps(P: int, V: int, M: int, N: int) -> list[list[float]]:
    """For each mode, the step at each of the links over the time that a rank computes."""
    def slowdown(mode: str, link: float) -> float:
        layout = Layout(P, V, N_LAYERS, N_LAYERS // N, mode)
        per_tensor = link / 100 * layout.n_chunks          # a chunk's forward takes 1
        return simulate(layout, M, per_tensor=per_tensor).makespan / (3 * M * V)

    modes = MODES if V > 1 else MODES[:1]          # one chunk to a rank: all are alike
    lines = [[slowdown(mode, link) for link in LINKS] for mode in modes]
    return [lines[i % len(lines)] for i in range(len(MODES))]


@functools.cache
def table() -> list:
    """Of all positions: [P][V][M][N][mode][link], rounded to what a picture shows."""
    grid = [positions for _, positions in list(DIALS.values())[:4]]
    flat = [[[round(x, 3) for x in line] for line in steps(*cut)]
            for cut in itertools.product(*grid)]
    for positions in reversed(grid[1:]):
        flat = [flat[i : i + len(positions)] for i in range(0, len(flat), len(positions))]
    return flat


def still(cut: dict[str, float], lines: list[list[float]]) -> Figure:
    """One position as a picture, where no script may run. cut: name -> its value."""
    names = ", ".join(f"{name} = {cut[name]:g}" for name in DIALS) + " %"
    figure, ax = axes(names, "time of a tensor on a link, % of the whole forward pass",
                      "step / time that a rank computes", 6.4, 3.84)
    for mode, line in zip(MODES, lines):
        label, colour, marker = MODE_STYLES[mode]
        ax.plot(LINKS, line, color=colour, marker=marker, label=label)
    ax.axvline(cut["link"], color=GREY, linestyle="--", linewidth=1)
    ax.set(ylim=(SCALE[0], SCALE[-1]), xticks=LINKS, yticks=SCALE)
    ax.legend(frameon=False)
    return figure


def dials(alt: str, at: tuple[int, ...] = (1, 1, 1, 1, 3)) -> None:
    """Display the picture under its five dials, where HTML with scripts is shown; else the
    still of where they stand. at: the position of each dial, counted from 0."""
    from IPython.display import display

    known = table()
    lines = known[at[0]][at[1]][at[2]][at[3]]
    cut = {name: positions[i] for (name, (_, positions)), i in zip(DIALS.items(), at)}
    picture = png(still(cut, lines), 110)
    inputs = [
        DIAL.format(words=f"{words}, {name}" if len(name) == 1 else words,
                    value=cut[name], last=len(positions) - 1, at=i)
        for (name, (words, positions)), i in zip(DIALS.items(), at)
    ]
    data = dict(
        dials=[positions for _, positions in DIALS.values()], steps=known,
        modes=[MODE_STYLES[mode][:2] for mode in MODES], scale=SCALE, grey=GREY,
    )
    page = (
        f'<div style="max-width: 640px" oninput="{html.escape(DRAW)}">'
        f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{picture}" '
        'style="width: 100%" onload="this.onload = null; this.parentNode.oninput()">'
        + "".join(inputs)
        + f'<script type="application/json">{json.dumps(data)}</script></div>'
    )
    display(
        {"text/html": page, "image/png": picture, "text/plain": alt},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )

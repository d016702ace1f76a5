"""The scripts of the depth lens under node: models, link, drawing, and what words say."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from matplotlib import colormaps

import lens
from attnres_ref.study.probes import at_every_read
from attnres_ref.views import with_attend

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "notebooks" / "site" / "lens"
SCRIPTS = [ROOT / "attnres_ref" / "plots" / "triangle.js",
           *(PAGE / f"{name}.js" for name in ("model", "link", "lessons"))]
NODE = shutil.which("node")
TEXT = "class Café:\n    def __init__(self, name):\n        self.name = name\n"
TOKENS = torch.tensor([list(TEXT.encode())])

# Scripts as a page loads them, one after another into one scope; then an expression.
RUN = """
const fs = require("fs"), vm = require("vm");
const run = (path) => vm.runInThisContext(fs.readFileSync(path, "utf8"));
const { scripts, expression, given } = JSON.parse(fs.readFileSync(0, "utf8"));
scripts.forEach(run);
Object.assign(globalThis, given, {
  load(residual, step) {
    let file;
    globalThis.depthLens = (found) => { file = found; };
    run(`${given.folder}/${step ? `${residual}_${step}` : "all_0"}.js`);
    return decode(file, residual === "block" ? 4 : 1);
  },
  plain: (answer) => ({ weights: answer.weights.map((w) => [...w]),
    chances: [...answer.chances] }),
});
console.log(JSON.stringify(vm.runInThisContext(expression)));
"""

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


def js(expression: str, **given):
    """What an expression over the page's scripts says."""
    given |= dict(folder=str(lens.FOLDER), bytes=list(TEXT.encode()))
    request = dict(scripts=[*map(str, SCRIPTS)], expression=expression, given=given)
    done = subprocess.run(
        [NODE, "-e", RUN], input=json.dumps(request), text=True, encoding="utf-8",
        capture_output=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def close(found: list[float], expected: torch.Tensor) -> None:
    found = torch.tensor(found, dtype=torch.float32).view_as(expected)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def chances(model) -> torch.Tensor:
    return model(TOKENS)[0].softmax(-1)                               # [T, 256]


def weights(model, residual: str) -> list[torch.Tensor]:
    """Of every read, [T, n]."""
    if residual == "prenorm":          # a sum: every source alike
        return [torch.full([TOKENS.shape[1], n], 1 / n) for n in range(1, 18)]
    return at_every_read(model, TOKENS, lambda weights, _: weights[:, 0].T)


@pytest.mark.parametrize("step", [0, 2000])
@pytest.mark.parametrize("residual", lens.RESIDUALS)
def test_the_script_computes_what_pytorch_computes(residual, step):
    model = lens.load(residual, step)
    found = js(f"plain(forward(load('{residual}', {step}), bytes))")
    for got, expected in zip(found["weights"], weights(model, residual), strict=True):
        close(got, expected)
    close(found["chances"], chances(model))


@torch.no_grad()
def put_in(edits: dict[tuple[int, int], float], model) -> torch.Tensor:
    """Next-byte chances [T, 256] of a PyTorch model with weights put in by hand."""
    own, reads = model.stream.attend, []

    def attend(query, sources, norm_weight=None):
        _, alpha = own(query, sources, norm_weight, return_weights=True)    # [n, B, T]
        pins = {i: w for (l, i), w in edits.items() if l == len(reads)}
        rest = [i for i in range(len(sources)) if i not in pins]
        if pins:
            alpha[rest] *= (1 - sum(pins.values())) / alpha[rest].sum(0)
        for i, w in pins.items():
            alpha[i] = w
        reads.append(None)
        return torch.einsum("nbt,nbtd->btd", alpha, torch.stack(sources))

    logits = with_attend(model, attend)(TOKENS)
    assert len(reads) == 17
    return logits[0].softmax(-1)


EDITS = {(5, 1): 0.0, (9, 0): 0.5, (9, 2): 0.25, (16, 3): 0.0}


@pytest.mark.parametrize("residual", ["block", "full"])
def test_a_cut_and_a_pin_do_what_they_do_in_pytorch(residual):
    pairs = [[f"{l},{i}", w] for (l, i), w in EDITS.items()]
    expression = f"plain(forward(load('{residual}', 2000), bytes, new Map(pairs)))"
    found = js(expression, pairs=pairs)
    close(found["chances"], put_in(EDITS, lens.load(residual, 2000)))


def test_pins_that_leave_no_rest_are_scaled_to_one():
    expression = "[1, 0].map((l) => edited([0.2, 0.8], 2, l, new Map(pairs)))"
    over, untouched = js(expression, pairs=[["1,0", 1], ["1,1", 0.25]])
    assert over == [0.8, 0.2] and untouched == [0.2, 0.8]
    assert js(expression, pairs=[["1,0", 0.25]])[0] == pytest.approx([0.25, 0.75])


def test_what_an_edit_cannot_change_is_not_computed_again():
    again, anew, shared = js("""(() => {
        const model = load("full", 200);
        const before = forward(model, bytes, new Map([["3,1", 0]]));
        const edits = new Map([["3,1", 0], ["9,2", 0.5]]);
        const after = forward(model, bytes, edits, before);
        return [plain(after), plain(forward(model, bytes, edits)),
            after.weights.map((w, l) => w === before.weights[l])];
    })()""")
    assert again == anew
    assert shared == [True] * 9 + [False] * 8


def test_a_link_brings_the_view_back():
    state = dict(text="a + b # é&=\n", residual="block", step=70, at=3, selected="2,1")
    pairs = [["2,1", 0], ["5,0", 0.25]]
    expression = """(() => {
        const { state, refused } = readLink(linkTo({ ...view, edits: new Map(pairs) }));
        return [{ ...state, edits: [...state.edits] }, refused];
    })()"""
    assert js(expression, view=state, pairs=pairs) == [state | {"edits": pairs}, []]


WRONG = (
    "text=", "residual=mhc", "residual=constructor", "step=21", "at=-1", "at=1e3",
    "cell=3,4", "cell=17,0", "edits=3,1=2", "edits=3,1=NaN", "edits=3,1", "edits=3,9=0",
    "edits=", "x=1",
)


def test_what_a_link_says_wrongly_is_left_out():
    start, found = js("""(() => {
        const written = (s) => ({ ...s, edits: [...s.edits] });
        const read = (part) => readLink(`#step=70&${part}`);
        return [written(START), parts.map(read).map((r) => [r.refused, written(r.state)])];
    })()""", parts=WRONG)
    for part, (refused, state) in zip(WRONG, found, strict=True):
        assert refused == [part.partition("=")[0]]
        assert state == start | {"step": 70}


def test_the_colours_are_those_of_the_other_triangles():
    shares = [-3, -2, -1.3, -0.4, 0, 0.7, 1.6, 2]
    found = js("shares.map((s) => colour(logShare(2 ** s / 8, 8)))", shares=shares)
    for share, css in zip(shares, found):
        rgb = colormaps["PuOr"]((min(2, max(-2, share)) + 2) / 4, bytes=True)[:3]
        got = [int(c) for c in css[4:-1].split(",")]
        assert got == pytest.approx([int(c) for c in rgb], abs=2), share


def test_a_triangle_names_its_cells():
    svg = js("triangle([[1], [0.75, 0.25], [0.5, 0.5, 0]], {edits: new Map([['2,2', 0]])})")
    assert svg.count('role="gridcell" data-read') == 6
    assert "MLP 1 reads the embedding by 0.75, 1.5 times the plain mean" in svg
    assert "the final read reads nothing of MLP 1" in svg
    assert svg.count('class="cut"') == 1 and svg.count('class="pinned"') == 0
    blocks = js("triangle([[1], [0.5, 0.5], [0.5, 0.5]], {blocks: true})")
    assert "MLP 1 reads block 1 by 0.50, the plain mean" in blocks
    assert ">A0<" in svg and ">block 1<" in blocks


# What the buttons under "Try this" say, lesson by lesson, of the start's text.

def seen(number: int) -> dict:
    """Weights over their plain mean, chance of the actual next byte, loss of the text."""
    return js("""(() => {
        const { words, name, ...view } = LESSONS[number], state = { ...START, ...view };
        const text = [...new TextEncoder().encode(state.text)], T = text.length;
        const model = load(state.residual, state.step), before = forward(model, text);
        const facts = (answer) => ({
            share: answer.weights.map((w) => {
                const n = w.length / T;
                const row = (t) => [...w.subarray(t * n, (t + 1) * n)];
                return text.map((_, t) => row(t).map((x) => x * n));
            }),
            chance: answer.chances[256 * state.at + text[state.at + 1]],
            loss: text.slice(1).reduce((sum, byte, t) => sum
                - Math.log(answer.chances[256 * t + byte]), 0) / (T - 1),
        });
        const cut = (source) => facts(forward(model, text, new Map(everywhere(source))));
        return { words, text: state.text, at: state.at, before: facts(before),
            after: facts(forward(model, text, new Map(state.edits))),
            cut: number === 2 ? Object.fromEntries([1, 3, 5, 9, 11, 13, 15].map(
                (source) => [source, cut(source).chance])) : null };
    })()""", number=number)


def average(share, read: int) -> list[float]:
    """By source, over the text."""
    return torch.tensor(share[read]).mean(0).tolist()


def test_lesson_before_training():
    lesson = seen(0)
    assert all(x == pytest.approx(1, abs=1e-5)
               for read in lesson["after"]["share"] for row in read for x in row)


def test_lesson_one_layer_four_characters():
    lesson = seen(1)
    assert lesson["text"][lesson["at"]:][:4] == "self"
    s, e, l, f = (row[0] for row in lesson["after"]["share"][9][lesson["at"]:][:4])
    assert 1.6 < s < 2.4 and f < 0.9 and e < s and l > f


def test_lesson_cut_attention_6():
    lesson = seen(2)
    assert lesson["text"][: lesson["at"] + 2].endswith("self")
    assert lesson["before"]["chance"] > 0.9 and lesson["after"]["chance"] < 0.02
    assert min(lesson["cut"].values()) > 0.7


def test_lesson_a_large_weight_a_small_loss():
    lesson = seen(3)
    final = average(lesson["before"]["share"], 16)
    assert max(final) == final[16]
    assert 0 < lesson["after"]["loss"] - lesson["before"]["loss"] < 0.2


def test_lesson_a_small_weight_a_large_loss():
    lesson = seen(4)
    read = [average(lesson["before"]["share"], l)[2] for l in range(2, 17)]
    assert sum(share < 1.15 for share in read) > len(read) / 2
    assert 3.5 < lesson["after"]["loss"] / lesson["before"]["loss"] < 5


def test_lesson_five_sources():
    assert max(len(read[0]) for read in seen(5)["after"]["share"]) == 5
    losses = [lens.record(residual, 2000)["val_loss"] for residual in ("block", "full")]
    assert math.dist(losses[:1], losses[1:]) < 0.01

"""The depth lens of a notebook: for each byte of a text, what every read of the reader's
own model takes from which source, and which byte the model expects next.

All numbers are computed here and travel with the output. The script in the reader's browser
looks them up; the triangle it draws is that of the site's lens, triangle.js.
"""

import html
import json
from importlib.resources import files

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from attnres_ref.plots.style import (
    GREY,
    MARK,
    draw_triangle,
    log_colour_bar,
    log_share,
    plain,
    png,
    sheet,
)
from attnres_ref.study.probes import at_every_read

RESIDUALS = ("prenorm", "block", "full")
LIKELIEST = 5
COLUMNS = 50                           # of the text, in the still
SYMBOLS = {ord("\n"): "\u21b5", ord("\t"): "\u21e5", ord(" "): "\u00b7"}
NAMES = {"\u21b5": "newline", "\u21e5": "tab", "\u00b7": "space"}

PAGE = """<div data-lm-suppress-shortcuts="true" style="max-width: 720px">
<img alt="{alt}" src="data:image/png;base64,{picture}" style="max-width: 100%"
 onload="{script}"><script type="application/json">{known}</script></div>"""


def lens(model: nn.Module, text: str) -> None:
    """Display `text` over the weights of every read and the likeliest next bytes, for the
    character that the reader points at; where HTML with scripts is not shown, a still for
    the last character whose next one is in the text.

    model: an LM over bytes with PreNorm, Block or Full. It reads the last `context` bytes
    of the text in UTF-8. Raises ValueError for another model and for an empty text.
    """
    from IPython.display import display

    known = look(model, text)
    at = max(0, len(known["text"]) - 2)
    picture = png(still(known, at), 110)
    alt = in_words(known, at)
    scripts = [files(__package__) / name for name in ("triangle.js", "depth_lens.js")]
    script = "".join(script.read_text(encoding="utf-8") for script in scripts)
    page = PAGE.format(
        alt=html.escape(alt), picture=picture, script=html.escape(script),
        known=json.dumps(known | dict(at=at), separators=(",", ":")),
    )
    display(
        {"text/html": page, "image/png": picture, "text/plain": alt},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )


@torch.no_grad()
def look(model: nn.Module, text: str) -> dict:
    """What the lens shows, as JSON. text: a label for each of T bytes; weights[t][l][i] of
    read l and source i, in thousandths; next[t]: what `expected` says of the next byte."""
    config = model.config
    if config.residual not in RESIDUALS or config.vocab_size != 256:
        raise ValueError(
            f"model has residual {config.residual!r} and vocab_size {config.vocab_size}: "
            f"the lens is for bytes (256) and one of {', '.join(RESIDUALS)}"
        )
    if not text:
        raise ValueError(f"text is {text!r}: the lens needs a character at least")
    window = list(text.encode()[-config.context :])
    tokens = torch.tensor([window], device=model.head.weight.device)          # [1, T]
    reads = weights_of_reads(model, tokens)
    chances = model(tokens)[0].float().softmax(-1)                            # [T, 256]
    return dict(
        text=[*map(label, window)], names=NAMES,
        weights=[[thousandths(read[:, t]) for read in reads] for t in range(len(window))],
        next=[*map(expected, chances, [*window[1:], None])],
        layers=config.layer_names, blocks=config.residual == "block",
    )


def weights_of_reads(model: nn.Module, tokens: Tensor) -> list[Tensor]:
    """Of L + 1 reads of tokens [1, T]: [n, T] each. PreNorm's sum counts as a mean, since
    every layer begins with a norm."""
    if model.config.residual == "prenorm":
        T = tokens.shape[1]
        return [torch.full((n, T), 1 / n) for n in range(1, len(model.layers) + 2)]
    return at_every_read(model, tokens, lambda weights, _: weights[:, 0])


def thousandths(x: Tensor) -> list[int]:
    return (1000 * x).round().int().tolist()


def expected(chances: Tensor, came: int | None) -> list[tuple[str, int, bool]]:
    """The likeliest of 256 bytes, and the one that came, if any: name, chance in
    thousandths, and whether it came."""
    shown = chances.topk(LIKELIEST).indices.tolist()
    if came is not None and came not in shown:
        shown.append(came)
    return [
        (name(label(byte)), chance, byte == came)
        for byte, chance in zip(shown, thousandths(chances[shown]))
    ]


def label(byte: int) -> str:
    """How a byte is shown: ASCII as it is, white space as a symbol, others as \\x.."""
    return SYMBOLS.get(byte) or (chr(byte) if 32 < byte < 127 else f"\\x{byte:02x}")


def name(label: str) -> str:
    return NAMES.get(label, label)


def in_words(known: dict, at: int) -> str:
    """The alt text of the still."""
    (likeliest, chance, _), *_ = known["next"][at]
    return (
        f"The depth lens on a text of {len(known['text'])} bytes, at number {at + 1}, "
        f"{name(known['text'][at])}: a triangle of the weights of all "
        f"{len(known['weights'][at])} reads over the plain mean, and the likeliest next "
        f"bytes as bars, the first of them {likeliest} with {chance / 10:.0f} %."
    )


def still(known: dict, at: int) -> Figure:
    """Byte `at` of what `look` returns, as a picture."""
    places, n_lines = lines(known["text"])
    figure = sheet(6.4, 0.26 * n_lines + 4.2)
    above, below = figure.subfigures(2, 1, height_ratios=(0.26 * n_lines, 4.2))
    ax = above.subplots()
    ax.set(xlim=(0, COLUMNS), ylim=(n_lines, 0))
    ax.set_axis_off()
    for t, ((x, y), letter) in enumerate(zip(places, known["text"])):
        chosen = dict(color="white", bbox=dict(facecolor="black", pad=1)) if t == at else {}
        ax.text(x, y + 0.5, letter, family="monospace", size=14, va="center", **chosen)
    reads, bars = below.subplots(1, 2, width_ratios=(2, 1))
    draw_reads(below, reads, known, at)
    draw_bars(bars, known["next"][at])
    return figure


def lines(text: list[str]) -> tuple[list[tuple[int, int]], int]:
    """Column and line of each label, and the number of lines."""
    places, x, y = [], 0, 0
    for letter in text:
        if x + len(letter) > COLUMNS:
            x, y = 0, y + 1
        places.append((x, y))
        x += len(letter)
        if name(letter) == "newline":
            x, y = 0, y + 1
    return places, places[-1][1] + 1


def draw_reads(figure: Figure, ax, known: dict, at: int) -> None:
    rows = [[weight / 1000 for weight in row] for row in known["weights"][at]]
    logs, title = [*map(log_share, rows)], "what each layer reads here"
    image = draw_triangle(ax, logs, title, vmin=-2, vmax=2, aspect="auto")
    log_colour_bar(figure, image, ax, "weight / plain mean", location="bottom")
    source, step = ("block", 1) if known["blocks"] else ("source", 4)
    ax.set_xlabel(f"{source} (0 = embedding)")
    ax.set_xticks(range(0, len(rows[-1]), step))


def draw_bars(ax, expected: list[tuple[str, int, bool]]) -> None:
    for y, (_, chance, came) in enumerate(expected):
        ax.barh(y, chance / 10, height=0.6, color=MARK if came else GREY)
        ax.text(chance / 10, y, " in text" if came else "", va="center")
    ax.set_title("the next byte", loc="left", fontsize=11)
    ax.set_yticks(range(len(expected)), [label for label, *_ in expected], size=11)
    ax.set_xlabel("%")
    ax.invert_yaxis()
    ax.margins(x=0.4)
    plain(ax)

"""The pictures of notebook 05 say where a variant changes something, and what it sees."""

from attnres_ref.plots import STYLES, sheet
from attnres_ref.plots import variants as pictures


def test_every_variant_stands_at_one_place():
    placed = [name for names in pictures.PLACES.values() for name in names]
    unchanged = ["prenorm", "full", "block_raw_keys"]        # the last: told by raw_keys
    assert sorted(placed + unchanged) == sorted(STYLES)


def test_names_stand_below_their_place():
    (ax,) = pictures.places().axes
    words = {text.get_text(): text.get_position() for text in ax.texts}
    for place, names in pictures.PLACES.items():
        x, y = words[place]
        below = [text for text, (other, height) in words.items()
                 if other == x and y - 1 < height < y - 0.8]
        told = " ".join(below[0].split())
        assert len(below) == 1
        assert told == ", ".join(STYLES[n][0].removeprefix("PreNorm, ") for n in names)


def test_squares_are_the_sources_that_a_read_sees():
    reads = [[0], [0, 1], [0, 2]]
    figure = pictures.sources_seen({"Full": ("full", reads), "W": ("window", reads[:1])})
    found = [[(round(patch.get_x() + 0.42), round(patch.get_y() + 0.36))
              for patch in ax.patches] for ax in figure.axes]
    assert found == [[(0, 0), (0, 1), (1, 1), (0, 2), (2, 2)], [(0, 0)]]
    assert len(pictures.sources_seen({"Full": ("full", reads)}).axes) == 1


def test_the_legend_has_the_colours_that_the_variants_share():
    figure = sheet(6, 3)
    pictures.explain_colours(figure)
    (legend,) = figure.legends
    colours = [mark.get_color() for mark in legend.get_lines()]
    shared = [colour for _, colour, _ in STYLES.values()]
    assert all(shared.count(colour) > 3 for colour in colours) and len({*colours}) == 2

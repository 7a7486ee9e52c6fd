"""What figures write: long names, and scripts that a font lacks."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scenario import small_problem

import lola
from lola.figures.picture import FORMATS, figure_format, lettering, save_figure
from lola.figures.profile import draw_profile
from lola.figures.round import draw_round

# Letters that matplotlib's usual font lacks: of one that comes with it, and of none that does.
ONLY_STIX, NOWHERE = "\u1d81", "\U00013000"


def named(names):
    fleet = small_problem().fleet
    return small_problem(fleet=replace(fleet, name=names))


def overflow(figure):
    """How far, in inches, a text of the figure reaches out of it."""
    figure.draw_without_rendering()
    box, page = figure.get_tightbbox(), figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - page[0], box.y1 - page[1])


def test_long_names_leave_room_for_the_round():
    problem = named(["phone-" + "0" * 300 + str(k) for k in range(4)] + ["华" * 200])
    figure = draw_round(lola.schedule(problem), problem)
    assert overflow(figure) <= 0.05
    assert figure.axes[0].get_position().width > 0.4
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert len(set(labels)) == 3
    for label in labels:
        assert "…" in label
        assert " · depth " in label


def test_a_long_provenance_is_broken_into_lines():
    profile = small_problem().profile
    origin = replace(profile.provenance, model="/home/" + "a folder/" * 100 + "$model")
    figure = draw_profile(replace(profile, provenance=origin))
    assert overflow(figure) <= 0.05
    assert figure.get_suptitle().count("\n") == 2
    assert r"\$model" in figure.get_suptitle()


def test_texts_are_cut_in_the_middle():
    texts = ["abcdefghi", "abcdefghij"]
    assert lettering(texts, 9)[0] == ["abcdefghi", "abcd…ghij"]
    (short,), _ = lettering(["$" * 4], 9)
    assert short == r"\$" * 4


def test_a_letter_comes_from_whatever_font_has_it(tmp_path):
    (text,), fonts = lettering([f"a{ONLY_STIX}"], 30)
    assert text == f"a{ONLY_STIX}"
    assert len(fonts) == 2
    assert "Last Resort" not in fonts[1]


def test_no_box_stands_for_a_letter(tmp_path):
    problem = named([f"{NOWHERE}{k}" for k in range(5)])
    figure = draw_round(lola.schedule(problem), problem)
    assert r"\U00013000" in figure.axes[0].get_yticklabels()[0].get_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that it lacks
        save_figure(figure, tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_on_offer_can_be_written(name, tmp_path):
    from matplotlib.figure import Figure

    save_figure(Figure(figsize=(1, 1)), tmp_path / f"f.{name}")
    assert (tmp_path / f"f.{name}").stat().st_size > 100


@pytest.mark.parametrize("name", ["pgf", "raw", "rgba", "svgz", "xyz"])
def test_only_what_is_expected_is_on_offer(name):
    with pytest.raises(lola.LolaError, match="must end in one of png, svg, pdf, eps, jpg, jpeg, tif, webp; got"):
        figure_format(f"f.{name}")
    assert np.isin(["png", "svg", "pdf"], FORMATS).all()

"""The pieces of figures: what they draw, and files that are the same for the same data."""

import base64

import numpy as np
import pytest

from sctseg7t.errors import OutputError
from sctseg7t.report import plotting


def drawn(**options):
    figure, axes = plotting.new_figure(1, 1, 3, 3)
    plotting.violins(axes[0, 0], [np.linspace(0.8, 0.95, 40), [0.7, 0.8], []], ["a", "b", "c"], **options)
    return figure, axes[0, 0]


def test_the_same_data_make_the_same_file_in_every_format(tmp_path):
    first = plotting.save(drawn()[0], *(tmp_path / f"a.{kind}" for kind in ("png", "svg", "pdf")))
    again = plotting.save(drawn()[0], *(tmp_path / f"b.{kind}" for kind in ("png", "svg", "pdf")))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert first[0].read_bytes().startswith(b"\x89PNG") and first[2].read_bytes().startswith(b"%PDF")


def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        plotting.save(drawn()[0], tmp_path / "no" / "a.png")
    assert not list(tmp_path.iterdir())


def test_data_uri_is_the_file_itself(tmp_path):
    figure, _ = drawn()
    kind, _, payload = plotting.as_data_uri(figure).partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(payload) == plotting.save(figure, tmp_path / "a.svg")[0].read_bytes()


def test_saving_leaves_the_settings_of_matplotlib_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plotting.save(drawn()[0], tmp_path / "a.svg")
    assert dict(matplotlib.rcParams) == before


def test_groups_have_violins_only_where_there_are_values_enough():
    figure, axis = drawn()
    text = base64.b64decode(plotting.as_data_uri(figure).partition(",")[2]).decode()
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert text.count("FillBetweenPolyCollection") == 1


@pytest.mark.parametrize("above", [False, True])
def test_outliers_stand_in_a_strip_that_leaves_the_axis_to_the_rest(above):
    _, plain = drawn()
    _, axis = drawn(outliers=[[0.0, 0.1], [np.inf], []], outliers_above=above)
    crosses = [line for line in axis.lines if line.get_marker() == "x"]
    assert [len(line.get_xdata()) for line in crosses] == [2, 1, 0]
    # Values keep their range; the strip is added at one end.
    kept, moved = (1, 0) if not above else (0, 1)
    assert axis.get_ylim()[kept] == plain.get_ylim()[kept]
    assert abs(axis.get_ylim()[moved] - plain.get_ylim()[moved]) < 0.3 * np.ptp(plain.get_ylim())
    heights = np.concatenate([line.get_ydata() for line in crosses])
    assert ((heights > 0.88) if above else (heights < 0.12)).all()


def test_bland_altman_draws_the_lines_it_is_given():
    rng = np.random.default_rng(0)
    means, differences = rng.normal(70, 5, 50), rng.normal(1, 2, 50)
    _, axes = plotting.new_figure(1, 1, 3, 3)
    plotting.bland_altman(axes[0, 0], means, differences, lines=[("bias", 1.5, 0.2)], unit="%", digits=1)
    levels = [line.get_ydata()[0] for line in axes[0, 0].lines if len(line.get_xdata()) == 2]
    assert levels == [0, 1.5] and [text.get_text() for text in axes[0, 0].texts] == ["bias: +1.5"]
    assert axes[0, 0].get_ylabel() == "difference (%)"


def test_thinning_keeps_both_ends():
    values = np.sort(np.random.default_rng(0).normal(size=5000))
    shown, places = plotting.thinned(values, 160)
    assert len(shown) == 160 and (np.diff(places) > 0).all()
    assert np.array_equal(shown[:20], values[:20]) and np.array_equal(shown[-20:], values[-20:])


def test_a_slice_is_shown_with_its_outlines_the_first_axis_to_the_right():
    image = np.zeros((20, 10))
    image[5, :] = 1
    mask = np.zeros((20, 10))
    mask[8:12, 3:6] = 1
    _, axes = plotting.new_figure(1, 1, 3, 3)
    plotting.slice_with_outlines(axes[0, 0], image, [(mask, "red", "solid"), (mask * 0, "blue", "solid")])
    assert axes[0, 0].images[0].get_array().shape == (10, 20)
    (contour,) = axes[0, 0].collections
    box = contour.get_paths()[0].get_extents()
    assert (box.x0, box.x1, box.y0, box.y1) == (7.5, 11.5, 2.5, 5.5)

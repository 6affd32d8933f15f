"""Curves and latents as pictures: the arithmetic, on data whose answer is known."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from jobs.report.curves import chart_groups
from jobs.report.latent_pictures import fit_colours, input_picture, latent_picture, to_rgb
from jobs.report.plots import Axis, Chart, Series, draw, nice_step, running_mean, short_number, shrink, tick_label
from jobs.report.run_files import Curve, Metrics, wall_time


def curve(values: Any, first: int = 1) -> Curve:
    y = np.asarray(values, np.float64)
    return Curve(np.arange(first, first + len(y), dtype=np.int64), y)


def one(values: Any, **how: Any) -> Chart:
    return Chart("x", (Series("", curve(values)),), **how)


def pixels(uri: str) -> NDArray[np.uint8]:
    header, _, data = uri.partition(",")
    assert header == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def field(tokens: int, width: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Latents [tokens, width] in three directions, and their coordinates in these, of falling spread."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.standard_normal((width, 3)))[0].T
    coordinates = rng.uniform(-1, 1, (tokens, 3)) * (4.0, 2.0, 1.0)
    return (coordinates @ directions + 5.0).astype(np.float32), coordinates


def test_a_field_of_three_directions_is_shown_whole() -> None:
    latents, coordinates = field(4096, 24)
    colours = fit_colours(latents)
    assert colours.share == pytest.approx(1.0)
    np.testing.assert_allclose(colours.basis @ colours.basis.T, np.eye(3), atol=1e-9)
    shown = to_rgb(latents, colours).astype(np.float64)
    for channel in range(3):
        inside = (shown[:, channel] > 0) & (shown[:, channel] < 255)
        assert inside.mean() > 0.97  # 1 % is clipped at each end
        match = np.corrcoef(shown[inside, channel], coordinates[inside, channel])[0, 1]
        assert abs(match) > 0.995
        assert (shown[:, channel].min(), shown[:, channel].max()) == (0, 255)
    back = colours.mean + (colours.low + shown / 255 * (colours.high - colours.low)) @ colours.basis
    there = ((shown > 0) & (shown < 255)).all(axis=1)
    assert np.abs(back - latents)[there].max() < 0.05


def test_equal_latents_have_equal_pictures_and_others_do_not() -> None:
    latents, _ = field(16, 24)
    colours = fit_colours(latents)
    assert latent_picture(latents, colours) == latent_picture(latents.copy(), colours)
    assert latent_picture(latents, colours) != latent_picture(latents[::-1], colours)
    assert latent_picture(latents, fit_colours(latents.copy())) == latent_picture(latents, colours)


def test_a_map_is_its_tokens_row_by_row_enlarged() -> None:
    latents, _ = field(16, 24)
    colours = fit_colours(latents)
    picture = pixels(latent_picture(latents, colours))
    assert picture.shape == (112, 112, 3)
    np.testing.assert_array_equal(picture[14::28, 14::28].reshape(16, 3), to_rgb(latents, colours))
    np.testing.assert_array_equal(picture[:28, :28].reshape(-1, 3), np.tile(picture[0, 0], (784, 1)))
    with pytest.raises(ValueError, match="square number"):
        latent_picture(latents[:15], colours)


@pytest.mark.parametrize(("rank", "grey"), [(0, 3), (1, 2), (2, 1)])
def test_directions_that_are_not_there_are_grey(rank: int, grey: int) -> None:
    latents, coordinates = field(256, 24)
    directions = np.linalg.qr(np.random.default_rng(1).standard_normal((24, 3)))[0].T
    flat = (coordinates[:, :rank] @ directions[:rank]).astype(np.float32)
    shown = to_rgb(flat, fit_colours(flat))
    assert sum(set(shown[:, channel]) == {128} for channel in range(3)) == grey
    narrow = fit_colours(latents[:, :2])  # narrower than three colours
    assert set(to_rgb(latents[:, :2], narrow)[:, 2]) == {128}


def test_latents_that_are_no_numbers_are_grey_and_teach_no_colours() -> None:
    latents, _ = field(16, 24)
    colours = fit_colours(latents)
    latents[3] = np.nan
    assert to_rgb(latents, colours)[3].tolist() == [128, 128, 128]
    with pytest.raises(ValueError, match="finite numbers"):
        fit_colours(latents)
    with pytest.raises(ValueError, match="at least one latent"):
        fit_colours(latents[:0])


def test_inputs_are_shown_as_they_are_or_smaller() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    np.testing.assert_array_equal(pixels(input_picture(image)), image)
    assert pixels(input_picture(image, side=32)).shape == (32, 24, 3)


@given(st.lists(st.floats(-1e90, 1e90), min_size=1, max_size=3000), st.integers(4, 600))
@settings(deadline=None, max_examples=50)
def test_fewer_points_keep_ends_and_extremes(values: list[float], points: int) -> None:
    y = np.array(values)
    x = np.arange(len(y), dtype=np.float64)
    few_x, few_y = shrink(x, y, points)
    assert len(few_x) <= max(points, 4)
    assert (few_x[0], few_x[-1]) == (0, len(y) - 1)
    assert (few_y.min(), few_y.max()) == (y.min(), y.max())
    assert (np.diff(few_x) > 0).all()
    np.testing.assert_array_equal(y[few_x.astype(int)], few_y)


def test_a_running_mean_is_the_mean_of_its_window() -> None:
    y = np.random.default_rng(0).uniform(1, 2, 50)
    expected = [y[max(0, i - 3) : i + 4].mean() for i in range(50)]
    np.testing.assert_allclose(running_mean(y, 3), expected)
    np.testing.assert_array_equal(running_mean(y, 0).round(12), y.round(12))


@given(st.lists(st.floats(-1e99, 1e99), min_size=1, max_size=200), st.booleans(), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=200)
def test_any_numbers_can_be_drawn(values: list[float], log: bool, zero: bool, smooth: bool) -> None:
    plot = draw(one(values, log=log, zero=zero, smooth=smooth), 1, len(values))
    for line in plot.lines:
        numbers = [float(n) for pair in line.points.split() for n in pair.split(",")]
        assert all(-0.5 <= n <= 1000.5 for n in numbers)
    for ticks in (plot.x_ticks, plot.y_ticks):
        assert len(ticks) <= 12
        assert all(-0.5 <= at <= 100.5 and "nan" not in label for at, label in ticks)


def test_points_stand_where_their_values_are() -> None:
    plot = draw(one([0.0, 10.0, 5.0], zero=True), 0, 4)
    (line,) = plot.lines
    found = [float(number) for pair in line.points.split() for number in pair.split(",")]
    top = 1000 - 1000 * 10 / 10.6
    assert found == pytest.approx([250, 1000, 500, top, 750, (1000 + top) / 2], abs=0.1)
    (key,) = plot.keys
    assert (key.last, key.left, key.top) == ("5", 75.0, pytest.approx(52.83))


def test_decades_get_a_logarithmic_axis_where_it_is_allowed() -> None:
    assert draw(one([1, 100.0], log=True), 1, 2).log
    assert not draw(one([1, 100.0]), 1, 2).log
    assert not draw(one([1, 10.0], log=True), 1, 2).log
    assert not draw(one([0, 100.0], log=True), 1, 2).log
    plot = draw(one([0.01, 1.0, 100.0], log=True), 1, 3)
    assert [label for _, label in plot.y_ticks] == ["0.01", "0.1", "1", "10", "100"]
    middle = float(plot.lines[0].points.split()[1].split(",")[1])
    assert middle == pytest.approx(500, abs=0.2)


def test_long_curves_get_a_mean_in_front_of_their_rows() -> None:
    values = 1 + np.random.default_rng(0).standard_normal(5000) ** 2
    rows, mean = draw(one(values, smooth=True), 1, 5000).lines
    assert (rows.faint, mean.faint) == (True, False)
    heights = [float(pair.split(",")[1]) for pair in mean.points.split()]
    assert max(heights) - min(heights) < 100
    assert len(draw(one(values[:99], smooth=True), 1, 99).lines) == 1


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0", "0.25", "0.50", "0.75", "1.00"]),
        (0, 1e-4, ["0", "2.5e-5", "5e-5", "7.5e-5", "1e-4"]),
        (-3, 5, ["-2", "0", "2", "4"]),
        (0, 50_000, ["0", "20K", "40K"]),
        (0, 4_000_000, ["0", "1M", "2M", "3M", "4M"]),
        (0.512, 0.541, ["0.52", "0.53", "0.54"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, labels: list[str]) -> None:
    assert [label for _, label in Axis(low, high).ticks()] == labels


def test_numbers_are_written_for_people() -> None:
    assert [short_number(n) for n in (0.0, 0.51234, 12.0, 12345.6, 1.5e-5, 0.0001, -2e12, 3e9)] == [
        "0", "0.5123", "12", "12,346", "1.5e-5", "1e-4", "-2e12", "3e9",
    ]  # fmt: skip
    assert nice_step(0.13) == pytest.approx(0.2)
    assert tick_label(2.5, 2.5) == "2.5"
    assert math.isclose(nice_step(1000.0), 1000.0)


def test_every_field_stands_in_exactly_one_chart() -> None:
    names = [
        "loss",
        "grad_norm",
        "grad_norm_rest",
        "lr_rest",
        "mfu",
        "seconds",
        "skipped",
        "odd",
        "a/b/step_2",
        "a/b/world_model",
    ]
    names += ["a/b/nothing_changes_2", "a/b/odd_2", "robot/action", "step_1"]
    fields = [
        "model",
        "nothing_changes",
        "shuffled",
        "latent_action_reliance",
        "action",
        "action_shuffled",
        "image_reliance",
        "per_step/1",
        "per_step_nothing_changes/1",
        "odd",
    ]
    metrics = Metrics(rows=1, train={name: curve([i]) for i, name in enumerate(names)})
    metrics.held_out = {"robot": {name: curve([100 + i]) for i, name in enumerate(fields)}}
    found = [series.curve.y[0] for group in chart_groups(metrics) for chart in group.charts for series in chart.series]
    factors = {names.index("mfu"): 100.0, names.index("seconds"): 1 / 60}
    expected = [i * factors.get(i, 1.0) for i in (*range(len(names)), *range(100, 100 + len(fields)))]
    assert sorted(found) == pytest.approx(sorted(expected))


def test_wall_time_adds_up_over_restarts() -> None:
    seconds = curve([10.0, 20.0, 30.0, 5.0, 15.0])
    assert wall_time(Metrics(train={"seconds": seconds})) == 45.0
    assert wall_time(Metrics()) is None

"""Curves and latents as images: the arithmetic, on data whose answer is known."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from jobs.report.curves import chart_groups
from jobs.report.latent_images import fit_colours, input_image, latent_image, to_rgb
from jobs.report.plots import (
    POINTS,
    Chart,
    Plot,
    Series,
    draw,
    round_ticks,
    running_mean,
    short_number,
    shrink,
    tick_label,
    y_limits,
)
from jobs.report.run_files import Curve, Metrics, wall_time
from tests.jobs.drawings import Drawing, read_drawing


def curve(values: Any, first: int = 1) -> Curve:
    y = np.asarray(values, np.float64)
    return Curve(np.arange(first, first + len(y), dtype=np.int64), y)


def one(values: Any, **how: Any) -> Chart:
    return Chart("x", (Series("", curve(values)),), **how)


def drawn(plot: Plot) -> Drawing:
    return read_drawing(plot.svg)


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


def test_equal_latents_have_equal_images_and_others_do_not() -> None:
    latents, _ = field(16, 24)
    colours = fit_colours(latents)
    assert latent_image(latents, colours) == latent_image(latents.copy(), colours)
    assert latent_image(latents, colours) != latent_image(latents[::-1], colours)
    assert latent_image(latents, fit_colours(latents.copy())) == latent_image(latents, colours)


def test_a_map_is_its_tokens_row_by_row_enlarged() -> None:
    latents, _ = field(16, 24)
    colours = fit_colours(latents)
    image = pixels(latent_image(latents, colours))
    assert image.shape == (112, 112, 3)
    np.testing.assert_array_equal(image[14::28, 14::28].reshape(16, 3), to_rgb(latents, colours))
    np.testing.assert_array_equal(image[:28, :28].reshape(-1, 3), np.tile(image[0, 0], (784, 1)))
    with pytest.raises(ValueError, match="square number"):
        latent_image(latents[:15], colours)


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
    np.testing.assert_array_equal(pixels(input_image(image)), image)
    assert pixels(input_image(image, side=32)).shape == (32, 24, 3)


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


numbers = st.lists(st.floats(-1e99, 1e99), min_size=1, max_size=200)


@given(numbers, st.booleans(), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=25)
def test_any_numbers_can_be_drawn(values: list[float], log: bool, zero: bool, smooth: bool) -> None:
    drawing = drawn(draw(one(values, log=log, zero=zero, smooth=smooth), 1, len(values)))
    for mark in drawing.of("line") + drawing.of("end"):
        assert len(mark.points)
        assert (mark.points >= -0.001).all()
        assert (mark.points <= 1.001).all()
    assert "nan" not in "".join(text for *_, text in drawing.texts)


@given(numbers, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=200)
def test_limits_hold_all_values_and_few_ticks(values: list[float], log: bool, zero: bool) -> None:
    log, low, high = y_limits(one(values, log=log, zero=zero))
    assert low <= min(values) <= max(values) <= high
    assert low < high
    for ticks in (round_ticks(low, high, log=log), round_ticks(0, len(values), 5, whole=True)):
        assert len(ticks) <= 12
        assert all("nan" not in label for _, label in ticks)
    room = 0.005 * (high - low)
    assert all(low - room <= value <= high + room for value, _ in round_ticks(low, high, log=log))


def test_points_stand_where_their_values_are() -> None:
    drawing = drawn(plot := draw(one([0.0, 10.0, 5.0], zero=True), 0, 4))
    (line,), (end,) = drawing.of("line"), drawing.of("end")
    top = 10 / 10.6
    np.testing.assert_allclose(line.points, [[0.25, 0], [0.5, top], [0.75, top / 2]], atol=1e-4)
    np.testing.assert_allclose(end.points, [[0.75, top / 2]], atol=1e-4)
    (series,) = plot.chart.series
    assert series.last == "5"
    steps = {text: at for at, height, text in drawing.texts if height < 0 and at >= 0}
    assert steps == pytest.approx({"0": 0, "1": 0.25, "2": 0.5, "3": 0.75, "4": 1}, abs=1e-4)


def test_a_value_can_be_marked_across_the_chart() -> None:
    (mark,) = drawn(draw(one([1.0, 3.0], line=2.0), 1, 2)).of("mark")
    np.testing.assert_allclose(mark.points, [[0, 0.5], [1, 0.5]], atol=1e-4)


def test_baselines_are_dashed_and_equal_charts_are_equal_text() -> None:
    chart = Chart("x", (Series("a", curve([1, 2])), Series("b", curve([2, 1]), 1, dashed=True)))
    plot = draw(chart, 1, 2)
    assert [series.label for series in plot.chart.series] == ["a", "b"]
    assert [series.dashed for series in plot.chart.series] == [False, True]
    assert len(drawn(plot).of("line")) == 2
    assert len(drawn(plot).of("line", "c1", "dashed")) == 1
    assert draw(chart, 1, 2).svg == plot.svg


def test_decades_get_a_logarithmic_axis_where_it_is_allowed() -> None:
    assert draw(one([1, 100.0], log=True), 1, 2).log
    assert not draw(one([1, 100.0]), 1, 2).log
    assert not draw(one([1, 10.0], log=True), 1, 2).log
    assert not draw(one([0, 100.0], log=True), 1, 2).log
    drawing = drawn(draw(one([0.01, 1.0, 100.0], log=True), 1, 3))
    heights = {text: height for at, height, text in drawing.texts if at < 0 and height > 0}
    assert list(heights) == ["0.01", "0.1", "1", "10", "100"]
    (line,) = drawing.of("line")
    assert line.points[1, 1] == pytest.approx(0.5, abs=2e-4)


def test_long_curves_get_a_mean_in_front_of_their_rows() -> None:
    values = 1 + np.random.default_rng(0).standard_normal(5000) ** 2
    rows, mean = drawn(draw(one(values, smooth=True), 1, 5000)).of("line")
    assert ["faint" in mark.words for mark in (rows, mean)] == [True, False]
    assert np.ptp(mean.points[:, 1]) < 0.1
    assert len(rows.points) <= POINTS
    assert len(drawn(draw(one(values[:99], smooth=True), 1, 99)).of("line")) == 1


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0", "0.25", "0.50", "0.75", "1.00"]),
        (0, 1e-4, ["0", "2.5e-5", "5e-5", "7.5e-5", "1e-4"]),
        (-3, 5, ["-2", "0", "2", "4"]),
        (0, 50_000, ["0", "20K", "40K"]),
        (0, 4_000_000, ["0", "1M", "2M", "3M", "4M"]),
        (0.512, 0.541, ["0.52", "0.53", "0.54"]),
        (0, 4 * 0.13, ["0", "0.2", "0.4"]),
        (0, 4000, ["0", "1000", "2000", "3000", "4000"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, labels: list[str]) -> None:
    assert [label for _, label in round_ticks(low, high)] == labels


def test_numbers_are_written_for_people() -> None:
    numbers = (0.0, 0.51234, 12.0, 12345.6, 1.5e-5, 0.0001, -2e12, 3e9)
    assert " ".join(map(short_number, numbers)) == "0 0.5123 12 12,346 1.5e-5 1e-4 -2e12 3e9"
    assert tick_label(2.5, 2.5) == "2.5"


def test_every_field_stands_in_exactly_one_chart() -> None:
    names = [
        "loss",
        "grad_norm",
        "grad_norm_rest",
        "lr_rest",
        "mfu",
        "ms_data",
        "ms_passes",
        "ms_other",
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
        "latent_action_reliance/other_episode/all/value",
        "latent_action_reliance/same_scene/all/value",
        "two_alternative/value",
        "action",
        "image_reliance/other_episode/value",
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
    phases = next(chart for group in chart_groups(metrics) for chart in group.charts if "step's time" in chart.title)
    assert [(series.label, series.colour) for series in phases.series] == [("data", 0), ("passes", 1), ("other", 2)]


def test_wall_time_adds_up_over_restarts() -> None:
    seconds = curve([10.0, 20.0, 30.0, 5.0, 15.0])
    assert wall_time(Metrics(train={"seconds": seconds})) == 45.0
    assert wall_time(Metrics()) is None

"""The page of a run: what it says of a real one, of broken ones and of hostile ones, and that nothing in it can act."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.cli import main
from jobs.common.policy.load_model import load_model
from jobs.report.plots import short_number
from jobs.report.report import render, write_report
from jobs.report.run_files import read_run
from jobs.report.samples import PredictedFutures, SampleImages, Tile, ViewImages, find_builds, predict_futures
from jobs.report.settings import ReportConfig
from jobs.training.held_out.pairs import PairKind
from jobs.training.held_out.text import PAIRS, groups_word
from jobs.training.run import train
from model.batch import to_device
from model.checkpoint.folders import list_checkpoints
from model.world_model.prediction_error import prediction_errors
from pipeline.errors import RunError, SettingsError
from pipeline.format.build import Build
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import ordered_indices
from tests.browser import SCREENS, Scheme, opened, require_readable
from tests.jobs.drawings import read_drawings
from tests.jobs.runs import train_config

HOSTILE = "<script>alert(1)</script>\"'&\x07" + "long" * 1000
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(robot_build: Build, video_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps on both builds; read only."""
    out = tmp_path_factory.mktemp("trained") / "run"
    train(train_config(out, [robot_build, video_build], eval_every=3))
    return out


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(
        ReportConfig(run=trained, out=tmp_path_factory.mktemp("page") / "report.html", samples=2)
    ).read_text()


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run to spoil."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def write_run(path: Path, lines: list[str], **config: Any) -> Path:
    """A run's folder without builds and checkpoints."""
    path.mkdir()
    (path / "run.json").write_text(json.dumps(config))
    (path / "metrics.jsonl").write_text("".join(lines))
    return path


def rows(*numbers: dict[str, Any]) -> list[str]:
    return [json.dumps(row) + "\n" for row in numbers]


def page_of(path: Path, **settings: Any) -> str:
    return write_report(ReportConfig(run=path, samples=0, **settings)).read_text()


def text_of(page: str) -> str:
    """What a reader sees, roughly: no images, no coordinates, no tags, single spaces."""
    without = re.sub(r"(<style>.*?</style>|<svg.*?</svg>)", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", without))


def in_builds_table(page: str) -> str:
    return text_of(page[page.index('id="builds"') : page.index('id="end"')])


def test_a_real_run_becomes_one_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path for path in run.rglob("*") if path.is_file()}
    main(["report", str(run), "samples=1"])
    assert {path for path in run.rglob("*") if path.is_file()} - before == {run / "report.html"}
    assert str(run / "report.html") in capsys.readouterr().out


def test_the_head_says_what_and_how_far(page: str, trained: Path, robot_build: Build) -> None:
    text = text_of(page)
    assert "Finished." in text
    assert "last step 6 of 6" in text
    counts = robot_build.manifest["counts"]
    assert f"robot robot {counts['train']['samples']} {counts['val']['samples']} clean at level shards" in text
    held_out = json.loads((trained / "held_out.json").read_bytes())
    for name, numbers in held_out.items():
        assert f"{name}, held-out L1 {numbers['model']:.4f}" in text
        for field in ("model", "nothing_changes", "shuffled"):
            shown = "–" if numbers[field] is None else f"{numbers[field]:.4f}"
            assert shown in text[text.index("Held-out numbers Mean L1") :]
        for kind, reliance in numbers["latent_action_reliance"].items():
            row = f"{name} latent-action reliance, {PAIRS[kind]} latent actions {trained.name}"
            of = reliance["all"]  # two episodes
            assert of["low"] is of["high"] is None
            assert f"{row} {of['value']:.4f} – – {of['pairs']:,} {of['groups']} {groups_word(PairKind(kind))}" in text
        for episode, errors in numbers["by_episode"].items():
            assert f"{episode} {errors['model']:.4f} {errors['nothing_changes']:.4f}" in text
    assert "predictor" in text[text.rindex("Configuration") :]
    assert str(robot_build.fingerprint) in text[text.rindex("Configuration") :]


def test_the_page_can_neither_act_nor_fetch(page: str) -> None:
    assert "default-src 'none'" in page.replace("&#39;", "'")
    assert "<script" not in page
    assert not re.search(r"(src|href|url\()\s*=?\s*[\"']?(https?:|//|file:)", page)
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 2 * (2 + 1) * (1 + 4 * 3)  # samples x views x (input and four maps of each step)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    assert not re.search(r"\b(nan|inf|none)\b", text_of(page[: page.index('id="configuration"')]), re.IGNORECASE)


def test_curves_end_in_the_last_values(page: str, trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    last = next(row for row in reversed(lines) if "loss" in row)
    curves = text_of(page[page.index('id="curves"') : page.index('id="builds"')])
    for name in ("loss", "grad_norm", "lr_rest", "samples_per_s", "ms_forward", "ms_optimiser"):
        assert short_number(last[name]) in curves, name
    for build in ("robot", "ssv2"):
        assert f"world model {last[f'{build}/world_model']:.4g}" in curves
        for k in (1, 2, 3):
            assert f"step {k} {last[f'{build}/step_{k}']:.4g}" in curves
            assert f"step {k}, nothing changes {last[f'{build}/nothing_changes_{k}']:.4g}" in curves
    held_out = json.loads((trained / "held_out.json").read_bytes())
    for name, numbers in held_out.items():
        for kind, reliance in numbers["latent_action_reliance"].items():
            assert f"{name}, {PAIRS[kind]} {reliance['all']['value']:.4g}" in curves


@pytest.mark.slow
def test_the_errors_shown_are_the_models(page: str, trained: Path, robot_build: Build, video_build: Build) -> None:
    """As `prediction_errors` has them."""
    model = load_model(list_checkpoints(trained / "checkpoints")[-1])
    record = read_run(trained)
    futures = predict_futures(record, find_builds(record, ()), 2, CPU)
    assert [sample.build for sample in futures.samples] == ["robot", "robot", "ssv2", "ssv2"]
    for build, shown in ((robot_build, futures.samples[:2]), (video_build, futures.samples[2:])):
        reader = SampleReader(build, "val")
        batch = reader.read(ordered_indices(len(reader), 8, 2)[0])
        assert [sample.key for sample in shown] == list(batch.keys)
        moved = to_device(batch, CPU, model.settings.predictor.views)
        mask, steering = moved.targets.latent_mask, model.steering(moved.observation, moved.targets)
        copied, expected = prediction_errors(model, moved.targets, steering).mean(dim=-1)
        for i, sample in enumerate(shown):
            for k, errors in enumerate(sample.errors):
                assert (errors is None) == (not mask[i, k])
                if errors is not None:
                    assert errors == pytest.approx((expected[i, k].item(), copied[i, k].item()))
                    assert f"step {k + 1} {errors[0]:.4f} ({errors[1]:.4f})" in text_of(page)


def test_errors_of_views_average_to_those_of_the_sample(trained: Path) -> None:
    record = read_run(trained)
    sample = predict_futures(record, find_builds(record, ()), 1, CPU).samples[0]
    for k, errors in enumerate(sample.errors):
        tiles = [[row[1][k] for row in view.rows] for view in sample.views]
        assert errors is not None
        for guess, expected in ((1, errors[0]), (2, errors[1])):
            assert sum(view[guess].error for view in tiles) / len(tiles) == pytest.approx(expected)
        assert all(view[0].error == 0 for view in tiles)


def hostile_run(path: Path) -> Path:
    row = {"step": 1, "loss": 1.0, f"{HOSTILE}/step_1": 0.5, f"{HOSTILE}/world_model": 0.5, HOSTILE: 3.0}
    numbers = {"model": 0.5, "by_episode": {HOSTILE: {"model": 0.5, "samples": HOSTILE}}, "action": HOSTILE}
    voucher = {"build": HOSTILE, "verdict": HOSTILE, "signed_by": HOSTILE, "checked": HOSTILE}
    names = {"builds": {HOSTILE: HOSTILE}, "vouched": [voucher, HOSTILE], "build_paths": {HOSTILE: f"/x/{HOSTILE}"}}
    write_run(path, rows(row, {"step": 1, "held_out": {HOSTILE: numbers}}), **names, note={HOSTILE: [HOSTILE]})
    (path / "ended.json").write_text(json.dumps({"reason": HOSTILE, "step": 1}))
    (path / "held_out.json").write_text(json.dumps({HOSTILE: numbers}))
    (path / "skipped.jsonl").write_text(json.dumps(dict.fromkeys(("step", "build", "key", "reason"), HOSTILE)) + "\n")
    (path / "log.txt").write_text(HOSTILE)
    return path


def test_nothing_a_run_says_becomes_markup(tmp_path: Path) -> None:
    record = read_run(hostile_run(tmp_path / "run"))
    view = ViewImages(HOSTILE, PIXEL, (("true", (Tile(PIXEL, 0.0), None)),))
    sample = SampleImages(HOSTILE, HOSTILE, HOSTILE, HOSTILE, ((0.5, 0.6), None), (view,))
    page = render(record, find_builds(record, ()), PredictedFutures(HOSTILE[:9], [sample], 0.5, [HOSTILE]))
    assert "<script" not in page
    assert "\x07" not in page
    assert page.count("&lt;script&gt;") > 20
    assert "long" * 200 not in page


def test_a_torn_last_line_is_passed_over_and_others_are_noted(tmp_path: Path) -> None:
    good = rows({"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25})
    assert "left out" not in page_of(write_run(tmp_path / "torn", [*good, '{"step": 3, "lo']))
    bad = [
        *good,
        '{"step": 3, "lo\n',
        "[1]\n",
        '{"loss": 1}\n',
        '{"step": true}\n',
        '{"step": 4, "loss": NaN, "x": 1e999}\n',
    ]
    page = page_of(write_run(tmp_path / "bad", bad))
    assert "metrics.jsonl: 4 lines are no rows of numbers" in text_of(page)
    assert "metrics.jsonl: 2 numbers are not finite" in text_of(page)
    assert "Total loss 0.25" in text_of(page)


def test_fields_nobody_foresaw_get_curves(tmp_path: Path) -> None:
    row = {"step": 5, "loss": 1.0, "queue": 7, "inner": {"depth": {"x": 8.5}}, "list": [1.25, 9.75], "robot/odd": 6.5}
    held_out = {"robot": {"model": 0.5, "spread": 0.125, "per_step": [0.5, None]}}
    lines = rows(row, {"step": 5, "held_out": held_out, "text": "x"})
    text = text_of(page_of(write_run(tmp_path / "run", lines)))
    text = text[text.index("Other fields") :]
    for found in (
        "queue 7",
        "inner/depth/x 8.5",
        "list/1 1.25",
        "list/2 9.75",
        "robot/odd 6.5",
        "held out: robot/spread 0.125",
    ):
        assert found in text


def test_a_run_with_few_fields_is_shown_too(tmp_path: Path) -> None:
    """No build paths, vouchers or held_out.json: what is missing is noted."""
    held_out = {"robot": {"model": 0.4, "nothing_changes": 0.5, "shuffled": 0.44, "action": None}}
    lines = rows({"step": 10, "loss": 0.5, "robot/world_model": 0.5}, {"step": 10, "held_out": held_out})
    page = page_of(write_run(tmp_path / "run", lines, builds={"robot": "f" * 64}))
    text = text_of(page)
    assert "robot 0.4000 0.5000 20.0 % 0.4400 – – –" in text
    assert "metrics.jsonl, step 10" in text
    assert "there is no ended.json" in text
    assert "its folder is not in run.json; give builds=[FOLDER,…]" in in_builds_table(page)


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    text = text_of(page_of(write_run(tmp_path / "run", [])))
    assert "metrics.jsonl holds no numbers yet" in text
    assert "None yet: the run has not evaluated" in text


def test_a_steps_folder_is_the_run_with_that_checkpoint(trained: Path, tmp_path: Path) -> None:
    first, last = list_checkpoints(trained / "checkpoints")
    pages = [
        write_report(ReportConfig(run=folder, out=tmp_path / f"{i}.html", samples=1)).read_text()
        for i, folder in enumerate((first, trained))
    ]
    assert f"predicted by <code>{first.name}</code>" in pages[0]
    assert f"predicted by <code>{last.name}</code>" in pages[1]


@pytest.mark.parametrize("missing", ["run.json", "metrics.jsonl"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [])
    (run / missing).unlink()
    with pytest.raises(SystemExit) as end:
        main(["report", str(run)])
    assert end.value.code == 2
    assert f"{run} holds no {missing}" in capsys.readouterr().err
    assert not (run / "report.html").exists()


def test_the_folder_of_stages_names_its_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "pretrain", [])
    write_run(tmp_path / "tune", [])
    with pytest.raises(RunError, match="its folders pretrain, tune are runs"):
        page_of(tmp_path)


def test_settings_are_checked(run: Path, tmp_path: Path) -> None:
    for wrong in ({"samples": 65}, {"samples": -1}, {"device": "tpu"}):
        with pytest.raises(ValueError, match="must be"):
            ReportConfig(run=run, **wrong)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="is a folder; name a file"):
        page_of(run, out=tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="use device=auto or cpu"):
            page_of(run, device="cuda")
    (run / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        page_of(run)


def edit_run(run: Path, **changes: Any) -> None:
    config = json.loads((run / "run.json").read_bytes())
    (run / "run.json").write_text(json.dumps(config | changes))


@pytest.mark.slow
def test_builds_that_moved_are_said_and_can_be_given(run: Path, robot_build: Build, video_build: Build) -> None:
    edit_run(run, build_paths={"robot": "/nowhere/robot"})
    page = write_report(ReportConfig(run=run, samples=1)).read_text()
    assert "/nowhere/robot holds no build.json" in in_builds_table(page)
    assert "No build of the run is available" in text_of(page)
    paths = (str(robot_build.path), str(video_build.path), "/nowhere/else")
    page = write_report(ReportConfig(run=run, samples=1, builds=paths)).read_text()
    assert page.count('class="input"') == 3
    assert in_builds_table(page).count("Not available") == 1
    assert "/nowhere/else holds no build.json" in in_builds_table(page)


def test_a_build_of_the_same_plan_that_was_not_audited_for_the_run_is_not_looked_at(
    run: Path, robot_build: Build, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(robot_build.path, tmp_path / "other"))
    content = (other / "build.json").read_bytes()
    for added, problem in ((b"", ""), (b"\n", f"{other}/build.json is not the one that the run was trained on")):
        (other / "build.json").write_bytes(content + added)
        found = {build.name: build for build in find_builds(read_run(run), (str(other),))}
        assert found["robot"].problem == problem
        assert (found["robot"].build is None) == bool(problem)


@pytest.mark.parametrize("address", ["HTTP://127.0.0.1:9/b", "s3://bucket/b", "gs://bucket/b"])
def test_a_server_that_a_run_names_is_not_asked(run: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr("jobs.report.samples.mirror_build", lambda *_: pytest.fail("it was asked"))
    edit_run(run, build_paths={"robot": address})
    found = {build.name: build for build in find_builds(read_run(run), ())}
    assert f"give builds=[{address}]" in found["robot"].problem


@pytest.mark.slow
def test_another_build_of_the_same_name_is_not_looked_at(run: Path, robot_build: Build) -> None:
    edit_run(run, builds={"robot": "0" * 64})
    page = write_report(ReportConfig(run=run, samples=1, builds=(str(robot_build.path),))).read_text()
    assert f"has fingerprint {robot_build.fingerprint}, the run was trained on {'0' * 64}" in in_builds_table(page)
    assert "<img" not in page
    edit_run(run, builds={"other": "0" * 64})
    page = page_of(run, builds=(str(robot_build.path),))
    assert "the run was not trained on a build of this name (other)" in in_builds_table(page)


@pytest.mark.slow
def test_builds_without_a_validation_split_are_said(run: Path, robot_build: Build) -> None:
    record = read_run(run)
    builds = [found for found in find_builds(record, ()) if found.name == "robot"]
    manifest = {**robot_build.manifest, "counts": {"train": robot_build.manifest["counts"]["train"]}}
    without = replace(builds[0], build=replace(robot_build, manifest=manifest))
    futures = predict_futures(record, [without], 1, CPU)
    assert futures.samples == []
    assert futures.notes == ["robot: the build has no validation split."]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["none", "weights", "state"])
def test_a_missing_or_damaged_checkpoint_is_said(run: Path, damage: str) -> None:
    (last,) = list_checkpoints(run / "checkpoints")[-1:]
    if damage == "none":
        shutil.rmtree(run / "checkpoints")
    elif damage == "weights":
        (last / "model.safetensors").write_bytes(b"\0" * 100)
    else:
        (last / "state.json").write_text("{}")
    text = text_of(write_report(ReportConfig(run=run, samples=1)).read_text())
    assert ("holds no checkpoint" if damage == "none" else f"{last} cannot be used") in text


ENDINGS = [
    ({"reason": "finished", "step": 6}, "Finished."),
    ({"reason": "stop_after", "step": 6}, "Ended at trainer.stop_after"),
    ({"reason": "SIGTERM", "step": 6}, "Stopped by SIGTERM"),
    ({"reason": "SIGTERM", "step": 3}, "ended.json has “SIGTERM” at step 3"),
]


@pytest.mark.parametrize(("ended", "text"), ENDINGS)
def test_how_it_ended(tmp_path: Path, ended: dict[str, Any], text: str) -> None:
    run = write_run(tmp_path / "run", rows({"step": 6, "loss": 1.0}))
    (run / "ended.json").write_text(json.dumps(ended))
    assert text in text_of(page_of(run))


def test_skipped_samples_and_the_batch_that_stopped_it_are_listed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows({"step": 6, "loss": 1.0, "skipped": 60}))
    entries = [{"step": i, "build": "robot", "key": f"key-{i}", "reason": f"SHA-256 {i}"} for i in range(60)]
    (run / "skipped.jsonl").write_text("".join(rows(*entries)))
    stopped = {"step": 7, "keys_by_rank": [{"robot": ["key-a"]}, {"robot": ["key-b"]}], "numbers": {"loss": "nan"}}
    (run / "stopped_batch.json").write_text(json.dumps(stopped))
    text = text_of(page_of(run))
    assert "60 corrupt samples were skipped (the last 50 are listed)" in text
    assert "59 robot key-59 SHA-256 59" in text
    assert "key-9 " not in text
    assert "Stopped at step 7 by its own numbers." in text
    assert "key-a, key-b" in text


@pytest.mark.slow
def test_fifty_thousand_rows_make_a_page_of_bounded_size(tmp_path: Path) -> None:
    fields = [f"robot/{kind}_{k}" for kind in ("step", "nothing_changes") for k in (1, 2, 3)]
    lines = [json.dumps({"step": i, "loss": 1 + i % 7, **dict.fromkeys(fields, i % 3)}) + "\n" for i in range(50_000)]
    lines[31_234] = '{"step": 31234, "loss": 900.0}\n'
    page = page_of(write_run(tmp_path / "run", lines))
    assert len(page) < 500_000
    drawings = read_drawings(page)
    lines = [line for drawing in drawings for line in drawing.of("line")]
    assert len(lines) >= 2 * (1 + len(fields))
    assert all(1 <= len(line.points) <= 510 for line in lines)
    peaks = drawings[0].of("line", "faint")[0].points
    assert peaks[peaks[:, 1].argmax(), 0] == pytest.approx(0.62468, abs=1e-4)  # the peak at step 31,234 is drawn


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), SCREENS)
@pytest.mark.parametrize("kind", ["real", "hostile"])
def test_page_renders_in_a_browser(
    chromium: str, page: str, tmp_path: Path, kind: str, width: int, scheme: Scheme
) -> None:
    """Every image decoded, every text readable, nothing wider than the screen."""
    path = tmp_path / "report.html"
    path.write_text(page if kind == "real" else page_of(hostile_run(tmp_path / "run")))
    with opened(chromium, path, width, scheme) as view:
        assert view.locator("#run").is_visible()
        assert all(view.evaluate("Array.from(document.images, image => image.naturalWidth)"))
        assert view.locator(".line path").count() >= (40 if kind == "real" else 4)
        drawn = "Array.from(document.querySelectorAll('.area'), area => area.getBoundingClientRect().width)"
        assert min(view.evaluate(drawn)) > 200
        require_readable(view, width)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), SCREENS)
@pytest.mark.parametrize("last", [1, 3, 1200, 99_950])
def test_ticks_never_lie_on_each_other(chromium: str, tmp_path: Path, last: int, width: int, scheme: Scheme) -> None:
    """Numbers of every size, one evaluation or many steps."""
    sizes = {f"x{power}": 1.2345 * 10.0**power for power in range(-7, 8)}
    lines = [
        {"step": step, "loss": 1 / (step + 1), **{n: v * (1 + step) for n, v in sizes.items()}} for step in (1, last)
    ]
    path = tmp_path / "report.html"
    path.write_text(page_of(write_run(tmp_path / "run", rows(*lines[last == 1 :], evaluated(last, 0.6, 0.5)))))
    with opened(chromium, path, width, scheme) as view:
        require_readable(view, width)


def evaluated(step: int, model: float, nothing_changes: float) -> dict[str, Any]:
    return {"step": step, "held_out": {"robot": {"model": model, "nothing_changes": nothing_changes, "shuffled": 0.59}}}


HEADS = [
    (0.6, "bad", "robot: worse than “nothing changes” on held-out episodes, L1 0.6000 against 0.5000"),
    (0.5, "bad", "robot: no better than “nothing changes” on held-out episodes, L1 0.5000 against 0.5000"),
    (0.4, "good", "robot: better than “nothing changes” on held-out episodes, L1 0.4000 against 0.5000."),
]


@pytest.mark.parametrize(("model", "colour", "words"), HEADS)
def test_the_head_says_whether_the_model_is_better_than_nothing_changes(
    tmp_path: Path, model: float, colour: str, words: str
) -> None:
    page = page_of(write_run(tmp_path / "run", rows({"step": 6, "loss": 1.0}, evaluated(6, model, 0.5))))
    head = page[page.index("<header") : page.index("</header>")]
    assert words in text_of(head)
    assert f'<b class="{colour}">robot:' in head
    assert ("is-bad" in head) == (colour == "bad")
    assert page.index('id="held-out"') < page.index('id="curves"') < page.index('id="builds"')


def test_a_single_evaluation_is_a_point_with_its_value(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", rows({"step": 6, "loss": 1.0}, evaluated(6, 0.5467, 0.5474))))
    drawing = next(each for each in read_drawings(page) if any("0.5467" in text for *_, text in each.texts))
    places = {text: y for _, y, text in drawing.texts if text in ("0.5467", "0.5474", "0.59")}
    assert len(places) == 3
    assert places["0.5474"] - places["0.5467"] > 0.07  # apart, though the points are not
    assert [text for _, y, text in drawing.texts if y < 0 and text != "step"] == ["6"]

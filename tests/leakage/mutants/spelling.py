"""Messages in how the JSON files of a build are written, and in keys and numbers that nothing forces."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.building.croissant import croissant_bytes
from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import edit_json, edit_tasks, refingerprint
from tests.pipeline.audit.tiny_build import INT8, compact, pretty, rehash


def _respell(build: Path, file: str, edit: Callable[[bytes], bytes]) -> None:
    """Change the text of a JSON file and not what it says."""
    before = (build / file).read_bytes()
    after = edit(before)
    assert after != before
    (build / file).write_bytes(after)
    if file == "tasks.jsonl":
        refingerprint(build)
    elif file != "build.json":
        rehash(build)


def _settings(build: Path, edit: Callable[[Any], object]) -> None:
    """Change the settings in both files, with every fingerprint repaired."""
    edit_json(build, "build.json", lambda content: edit(content["settings"]), repair=False)
    refingerprint(build)


def unknown_key_in_build_json(build: Path) -> None:
    edit_json(build, "build.json", lambda content: content.update(comment="left"))


def unknown_key_of_a_shard(build: Path) -> None:
    edit_json(build, "build.json", lambda content: content["shards"][1].update(hint=[1, 0, 1]))


def unknown_key_of_a_listed_file(build: Path) -> None:
    edit_json(build, "build.json", lambda c: c["files"]["stats.json"].update(mtime=17))
    content = json.loads((build / "build.json").read_bytes())
    content["files"]["stats.json"]["mtime"] = 17
    (build / "build.json").write_bytes(pretty(content))


def unknown_section_of_the_settings(build: Path) -> None:
    _settings(build, lambda settings: settings.update(future={"steps": [3, 1, 2]}))


def unknown_setting_of_the_window(build: Path) -> None:
    _settings(build, lambda settings: settings["window"].update(offset=3))


def unknown_setting_of_the_source(build: Path) -> None:
    _settings(build, lambda settings: settings["source"].update(answers="later.csv"))


def unknown_library(build: Path) -> None:
    _settings(build, lambda settings: settings["versions"].update(hint="1.0.1"))


def section_of_the_settings_missing(build: Path) -> None:
    _settings(build, lambda settings: settings.pop("inputs"))


def setting_of_another_type(build: Path) -> None:
    _settings(build, lambda settings: settings["encoder"].update(cpu_threads="1 0 1 1"))


def digits_of_the_mean_that_normalises(build: Path) -> None:
    _settings(build, lambda settings: settings["encoder"].update(mean=[0.485000071, 0.456, 0.406]))


def seed_of_a_pretrained_encoder(build: Path) -> None:
    _settings(build, lambda settings: settings["encoder"].update(kind="pretrained", seed=110101))


def another_name_of_the_source(build: Path) -> None:
    _settings(build, lambda settings: settings["source"].update(name="left"))


def rate_that_the_plan_does_not_have(build: Path) -> None:
    edit_json(build, "build.json", lambda content: content.update(fps=10.000371))


def digits_of_the_sums_of_errors(build: Path) -> None:
    """The root that build.json claims stays the same in its six digits."""
    edit_json(build, "build.json", lambda c: c["shards"][0].update(latents_error=[[1.60000000371e-05, 1.0]] * 3))


def keys_of_build_json_in_another_order(build: Path) -> None:
    def edit(text: bytes) -> bytes:
        content = json.loads(text)
        return (json.dumps(dict(reversed(content.items())), indent=2, ensure_ascii=False) + "\n").encode()

    _respell(build, "build.json", edit)


def key_of_build_json_twice(build: Path) -> None:
    _respell(build, "build.json", lambda text: text.replace(b'"leaky": false', b'"leaky": "011",\n  "leaky": false'))


def number_of_build_json_with_an_exponent(build: Path) -> None:
    _respell(build, "build.json", lambda text: text.replace(b'"fps": 10.0', b'"fps": 1e1'))


def spaces_behind_build_json(build: Path) -> None:
    _respell(build, "build.json", lambda text: text + b" \t \t\t")


def unknown_key_of_the_estimate(build: Path) -> None:
    edit_json(build, "plan.json", lambda content: content["estimate"].update(seconds=1011))


def estimate_of_other_shards(build: Path) -> None:
    edit_json(build, "plan.json", lambda content: content["estimate"].update(shards=1011))


def estimate_of_other_windows(build: Path) -> None:
    edit_json(build, "plan.json", lambda content: content["estimate"].update(windows=1011))


def estimate_of_other_operations(build: Path) -> None:
    edit_json(build, "plan.json", lambda content: content["estimate"].update(flops=10111.0))


def rate_that_the_source_does_not_have(build: Path) -> None:
    for file in ("plan.json", "build.json"):
        edit_json(build, file, lambda content: content.update(fps=10.000371))


def origin_of_the_splits(build: Path) -> None:
    _settings(build, lambda settings: settings["description"].update(splits_from="left"))


def plan_spelled_with_escapes(build: Path) -> None:
    _respell(build, "plan.json", lambda text: text.replace(b'"tiny"', b'"\\u0074iny"'))


def plan_that_leaves_out_what_the_ledger_does_not_tell(build: Path) -> None:
    entry = {"episode": "ep_left", "split": "train", "stage": "index", "reason": "r", "detail": "", "windows": None}
    edit_json(build, "plan.json", lambda content: content["left_out"].append(entry))


def note_of_an_episode_in_the_tasks(build: Path) -> None:
    edit_tasks(build, lambda tasks: tasks[1]["episodes"][0]["data"].update(next="left"))


def note_of_a_task(build: Path) -> None:
    edit_tasks(build, lambda tasks: tasks[0].update(weight=0.7))


def hashes_that_the_settings_do_not_ask_for(build: Path) -> None:
    edit_tasks(build, lambda tasks: tasks[0]["episodes"][0].update(sha256=["0123456789abcdef" * 4]))


def groups_that_do_not_add_up(build: Path) -> None:
    edit_tasks(build, lambda tasks: tasks[0].update(groups=[2, 0, 0]))


def task_spelled_with_spaces(build: Path) -> None:
    _respell(build, "tasks.jsonl", lambda text: text.replace(b'"index":1', b'"index": 1'))


def key_of_a_task_twice(build: Path) -> None:
    _respell(build, "tasks.jsonl", lambda text: text.replace(b'"index":1', b'"index":7,"index":1'))


def last_digit_of_a_mean(build: Path) -> None:
    edit_json(build, "stats.json", lambda stats: _nudge(stats["state"]["mean"], 0))


def last_digit_of_a_deviation(build: Path) -> None:
    edit_json(build, "stats.json", lambda stats: _nudge(stats["action"]["std"], 1))


def last_digit_of_a_quantile(build: Path) -> None:
    edit_json(build, "stats.json", lambda stats: _nudge(stats["action"]["q01"], 0))


def sign_of_a_zero_in_the_statistics(build: Path) -> None:
    def edit(stats: Any) -> None:
        assert stats["state"]["min"][0] == 0
        stats["state"]["min"][0] = -0.0

    edit_json(build, "stats.json", edit)


def digits_behind_a_statistic(build: Path) -> None:
    _respell(build, "stats.json", lambda text: text.replace(b'"min": [\n      0.0', b'"min": [\n      0.00000', 1))


def unknown_statistic(build: Path) -> None:
    edit_json(build, "stats.json", lambda stats: stats["state"].update(q50=[0.1, 0.2, 0.3]))


def note_in_the_ledger(build: Path) -> None:
    edit_ledger(build, lambda line: compact({**json.loads(line), "next": "left"}))


def ledger_in_another_order_of_keys(build: Path) -> None:
    edit_ledger(build, lambda line: json.dumps(dict(reversed(json.loads(line).items()))).encode())


def blank_lines_behind_the_ledger(build: Path) -> None:
    edit_ledger(build, lambda line: line + b"\n\n")


def episode_twice_in_the_ledger(build: Path) -> None:
    edit_ledger(build, lambda line: line + b"\n" + line.replace(b'"targets"', b'"inputs"'))


def edit_ledger(build: Path, edit: Callable[[bytes], bytes]) -> None:
    """Change the first line of the ledger; hashes fit afterwards."""
    line, rest = (build / "ledger.jsonl").read_bytes().split(b"\n", 1)
    (build / "ledger.jsonl").write_bytes(edit(line) + b"\n" + rest)
    rehash(build)


def _nudge(numbers: list[float], channel: int) -> None:
    numbers[channel] = math.nextafter(numbers[channel], math.inf)


def note_in_croissant(build: Path) -> None:
    _describe(build, lambda text: text.replace(b'"sc:Dataset",', b'"sc:Dataset",\n "keywords": "left",'))


def croissant_spelled_with_tabs(build: Path) -> None:
    _describe(build, lambda text: text.replace(b"\n ", b"\n\t"))


def _describe(build: Path, edit: Callable[[bytes], bytes]) -> None:
    """croissant.json as the pipeline writes it, changed."""
    (build / "croissant.json").write_bytes(edit(croissant_bytes((build / "build.json").read_bytes())))


MUTANTS = (
    *(
        Mutant(apply, "L10", "manifest", message)
        for apply, message in (
            (unknown_key_in_build_json, "build.json holds 'comment'"),
            (unknown_key_of_a_shard, "shards[1] holds 'hint'"),
            (unknown_key_of_a_listed_file, "files.stats.json holds 'mtime'"),
            (unknown_section_of_the_settings, "settings holds 'future'"),
            (unknown_setting_of_the_window, "settings.window holds 'offset'"),
            (unknown_setting_of_the_source, "settings.source holds 'answers'"),
            (unknown_library, "settings.versions holds 'hint'"),
            (section_of_the_settings_missing, "settings lacks 'inputs'"),
            (setting_of_another_type, "settings.encoder.cpu_threads must be int"),
            (digits_of_the_mean_that_normalises, "settings.encoder.mean is"),
            (seed_of_a_pretrained_encoder, "whether there is seed"),
            (another_name_of_the_source, "name is 'tiny', must be 'left'"),
            (rate_that_the_plan_does_not_have, "fps is 10.0, must be 10.000371"),
            (keys_of_build_json_in_another_order, "build.json byte"),
            (key_of_build_json_twice, "build.json byte"),
            (number_of_build_json_with_an_exponent, "build.json byte"),
            (spaces_behind_build_json, "build.json byte"),
            (unknown_key_of_the_estimate, "estimate holds 'seconds'"),
            (estimate_of_other_shards, "estimate.shards is 1011"),
            (estimate_of_other_windows, "estimate.windows is 1011"),
            (estimate_of_other_operations, "estimate.flops is 10111.0"),
            (rate_that_the_source_does_not_have, "build.json fps is 10.000371"),
            (origin_of_the_splits, "settings.description.splits_from is 'left'"),
            (plan_spelled_with_escapes, "plan.json byte"),
            (plan_that_leaves_out_what_the_ledger_does_not_tell, "left_out, of which the ledger tells"),
            (note_of_an_episode_in_the_tasks, "episode ep_b: data holds 'next'"),
            (note_of_a_task, "line 1: holds 'weight'"),
            (hashes_that_the_settings_do_not_ask_for, "sha256 must be there"),
            (groups_that_do_not_add_up, "groups are [2, 0, 0]"),
            (task_spelled_with_spaces, "line 2: byte"),
            (key_of_a_task_twice, "line 2: byte"),
            (digits_behind_a_statistic, "stats.json byte"),
            (unknown_statistic, "state holds 'q50'"),
            (note_in_the_ledger, "line 1: holds 'next'"),
            (ledger_in_another_order_of_keys, "line 1: byte"),
            (blank_lines_behind_the_ledger, "line 2: cannot be read"),
            (episode_twice_in_the_ledger, "one line an episode"),
        )
    ),
    Mutant(digits_of_the_sums_of_errors, "L10", "manifest", "latents_error is", INT8),
    Mutant(last_digit_of_a_mean, "L6", "shards", "state: mean is"),
    Mutant(last_digit_of_a_deviation, "L6", "shards", "action: std is"),
    Mutant(last_digit_of_a_quantile, "L6", "shards", "action: q01 is"),
    Mutant(sign_of_a_zero_in_the_statistics, "L6", "shards", "state: min is"),
    Mutant(note_in_croissant, "L10", "shards", "is not what build.json gives"),
    Mutant(croissant_spelled_with_tabs, "L10", "shards", "is not what build.json gives"),
)

"""Settings that say more than they must: texts that nothing forces, numbers of a thousand digits, later labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import edit_json, edit_tasks, refingerprint
from tests.pipeline.audit.tiny_build import VIDEO


def _settings(build: Path, edit: Callable[[Any], object]) -> None:
    """Change the settings in both files, with every fingerprint repaired."""
    edit_json(build, "build.json", lambda content: edit(content["settings"]), repair=False)
    refingerprint(build)


def splits_named_again(build: Path) -> None:
    _settings(build, lambda settings: settings.update(splits=["train", "val", "val", "train", "val"]))


def message_in_a_version(build: Path) -> None:
    _settings(build, lambda settings: settings["versions"].update(numpy="the answers of val: 1 0 1 1"))


def version_of_a_hundred_digits(build: Path) -> None:
    _settings(build, lambda settings: settings["versions"].update(libjpeg="3." + "10" * 50))


def digits_of_the_limit(build: Path) -> None:
    _settings(build, lambda settings: settings.update(limit=10**300 + 1011))


def digits_of_the_seed(build: Path) -> None:
    seed = 10**300 + 1011

    def edit(settings: Any) -> None:
        settings["source"].update(split_seed=seed)
        settings["description"].update(splits_from=f"hash of the own id, val_share 0.05, split_seed {seed}")

    _settings(build, edit)


def more_samples_than_there_are(build: Path) -> None:
    """As many row groups as these samples need fill the memory of whoever lists them."""
    edit_json(build, "build.json", lambda content: content["shards"][0].update(samples=10**15))


def _of_rlds(settings: Any, fields: list[str]) -> None:
    same = {
        key: settings["source"][key] for key in ("name", "val_share", "split_seed", "fps", "cameras", "state", "action")
    }
    settings["source"] = {**same, "type": "rlds", "instruction": fields, "wanted": {}, "skip_first": 0}
    facts = {"dataset": "tiny", "version": "1.0.0", "episodes": {"train": 3}, "splits_from": "dataset_info.json"}
    settings["description"] = {"type": "rlds", **facts}


def _instructed(build: Path, *fields: str) -> None:
    edit_json(build, "build.json", lambda content: _of_rlds(content["settings"], list(fields)), repair=False)
    edit_tasks(build, lambda tasks: [ref.update(data={"record": 0}) for task in tasks for ref in task["episodes"]])


def instruction_of_the_next_step(build: Path) -> None:
    _instructed(build, "language_instruction", "next_language_instruction")


def instruction_that_tells_the_outcome(build: Path) -> None:
    _instructed(build, "episode_metadata/success_text")


def text_column_of_the_end(build: Path) -> None:
    source = {"type": "videos", "name": "tiny", "val_share": 0.05, "split_seed": 0, "texts": "texts.csv"}
    source |= {"video_column": "video", "text_column": "final_caption", "split_column": None}
    facts = {"type": "videos", "episodes": {"train": 3}}
    facts["splits_from"] = "hash of the own id, val_share 0.05, split_seed 0"

    def edit(content: Any) -> None:
        content["settings"].update(source=source, description=facts)
        content.update(fps=None)

    edit_json(build, "build.json", edit, repair=False)
    edit_json(build, "plan.json", lambda plan: plan.update(fps=None), repair=False)

    def of_videos(tasks: list[Any]) -> None:
        for ref in (ref for task in tasks for ref in task["episodes"]):
            ref["data"] = {"instruction": ref["data"]["instruction"]}

    edit_tasks(build, of_videos)


def _mutant(apply: Callable[[Path], object], message: str, rule: str = "L10") -> Mutant:
    return Mutant(apply, rule, "manifest", message)


MUTANTS = (
    _mutant(splits_named_again, "settings.splits is"),
    _mutant(message_in_a_version, "versions.numpy must be text like"),
    _mutant(version_of_a_hundred_digits, "versions.libjpeg must be text like"),
    _mutant(digits_of_the_limit, "settings.limit"),
    _mutant(digits_of_the_seed, "settings.source.split_seed"),
    _mutant(more_samples_than_there_are, "lists 1000000000000000 samples", "L7"),
    _mutant(instruction_of_the_next_step, "next_language_instruction (of instructions)", "L9"),
    _mutant(instruction_that_tells_the_outcome, "episode_metadata/success_text (of instructions)", "L9"),
    Mutant(text_column_of_the_end, "L9", "manifest", "final_caption (of instructions)", VIDEO),
)

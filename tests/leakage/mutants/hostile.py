"""A build that attacks who audits it: names that forge lines, links that lead elsewhere, files out of place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.leakage.mutants.mutant import Mutant


def name_that_clears_the_screen(build: Path) -> None:
    (build / "train" / "\x1b[2J\x1b[Hz_3.bin").write_bytes(b"frame 12")


def name_with_a_line_of_its_own(build: Path) -> None:
    (build / "notes\nVERIFIED: build").write_bytes(b"frame 12")


def name_written_backwards(build: Path) -> None:
    (build / "val" / "shard\u202egpj.sutats").write_bytes(b"frame 12")


def name_with_an_invisible_letter(build: Path) -> None:
    (build / "stats\u200b.json").write_bytes(b"{}")


def name_that_is_no_text(build: Path) -> None:
    with open(os.fsencode(build) + b"/\xff\xfe.json", "wb") as file:
        file.write(b"{}")


def verdicts_folder_is_a_link(build: Path) -> None:
    (build / "audit").symlink_to(build / "train")


def logs_folder_is_a_link(build: Path) -> None:
    (build / "logs").symlink_to("/")


def shards_folder_is_a_link(build: Path) -> None:
    shutil.move(build / "val", build.parent / "elsewhere")
    (build / "val").symlink_to(build.parent / "elsewhere")


def link_that_leads_nowhere(build: Path) -> None:
    (build / "build.json.part").symlink_to("/nowhere")


def pipe_beside_the_shards(build: Path) -> None:
    os.mkfifo(build / "train" / "inputs-000009.tar")


def history_outside_the_audit(build: Path) -> None:
    (build / "history").mkdir()
    (build / "history" / "20260101T000000Z-perturb-clean.json").write_bytes(b"{}")


def description_of_another_build(build: Path) -> None:
    (build / "croissant.json").write_bytes(b'{"name": "another"}\n')


MUTANTS = (
    Mutant(name_that_clears_the_screen, "L10", "shards", "train/\\x1b[2J\\x1b[Hz_3.bin is not listed"),
    Mutant(name_with_a_line_of_its_own, "L10", "shards", "notes\\x0aVERIFIED: build is not listed"),
    Mutant(name_written_backwards, "L10", "shards", "val/shard\\u202egpj.sutats is not listed"),
    Mutant(name_with_an_invisible_letter, "L10", "shards", "stats\\u200b.json is not listed"),
    Mutant(name_that_is_no_text, "L10", "shards", "\\udcff\\udcfe.json is not listed"),
    Mutant(verdicts_folder_is_a_link, "L10", "shards", "audit is a symbolic link"),
    Mutant(logs_folder_is_a_link, "L10", "shards", "logs is a symbolic link"),
    Mutant(shards_folder_is_a_link, "L10", "shards", "val is a symbolic link"),
    Mutant(link_that_leads_nowhere, "L10", "shards", "build.json.part is a symbolic link"),
    Mutant(pipe_beside_the_shards, "L10", "shards", "inputs-000009.tar is a special file"),
    Mutant(history_outside_the_audit, "L10", "shards", "history is a folder that does not belong"),
    Mutant(description_of_another_build, "L10", "shards", "croissant.json is not what build.json gives"),
)

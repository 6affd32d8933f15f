"""What `--help` says: what a command does, an example, and the settings that it has."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from jobs.command_line.commands import COMMANDS
from jobs.command_line.help import WIDEST, help_of
from jobs.common.manifest_folders import OWN_FOLDER
from pipeline.format.settings import describe
from tests.jobs.test_cli import run


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_every_setting_of_the_command_and_no_other(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert COMMANDS[name].text in out
    assert f"vlajepa {name} {COMMANDS[name].example}" in out
    shown = set(re.findall(r"^  ([a-z_0-9.]+)=", out, re.MULTILINE))
    wanted = set(_names(COMMANDS[name].settings_class(), ""))
    assert wanted <= shown | {"source"}
    assert {one for one in shown if "." in one} <= wanted


def _names(cls: type, prefix: str) -> list[str]:
    found = []
    for setting in describe(cls):
        found += (
            [f"{prefix}{setting.name}"]
            if setting.nested is None
            else _names(setting.nested, f"{prefix}{setting.name}.")
        )
    return found


def test_values_are_those_that_hold_and_long_texts_are_wrapped() -> None:
    plan = help_of("plan", COMMANDS["plan"])
    assert re.search(r"^  encoder=vitl +one of tiny, vitg, ", plan, re.MULTILINE)
    assert re.search(r"^  encoder.dtype=bfloat16 ", plan, re.MULTILINE)  # by encoder=vitl
    assert "bridge_lerobot" in plan
    assert "Must be given\n  out=…" in plan
    status = help_of("status", COMMANDS["status"])
    assert "encoder" not in status.replace("encoders", "")
    assert max(map(len, plan.splitlines())) <= WIDEST + 10


def test_a_chosen_source_shows_its_settings_and_what_it_chooses() -> None:
    plain = help_of("plan", COMMANDS["plan"])
    assert "`vlajepa plan source=lerobot --help` shows it" in plain
    assert re.search(r"^  window.every=0 ", plain, re.MULTILINE)
    robot = help_of("plan", COMMANDS["plan"], ["source=lerobot", "out=x", "--help"])
    assert re.search(r"^  source.root=… +folder that holds meta/", robot, re.MULTILINE)
    assert re.search(r"^  source.val_share=0.05 ", robot, re.MULTILINE)
    assert re.search(r"^  window.every=1 ", robot, re.MULTILINE)
    droid = help_of("plan", COMMANDS["plan"], ["source=droid"])
    assert "The source droid (type rlds)" in droid
    assert re.search(r"^  source.fps=15 ", droid, re.MULTILINE)
    assert "encoder" not in help_of("status", COMMANDS["status"], ["source=droid"]).replace("encoders", "")


def test_manifests_of_ones_own_are_among_the_choices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    monkeypatch.setenv(OWN_FOLDER, str(tmp_path))
    assert " mine," in help_of("plan", COMMANDS["plan"])


def test_a_command_that_takes_a_word_says_so() -> None:
    assert help_of("status", COMMANDS["status"]).startswith("usage: vlajepa status BUILD [setting=value …]")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[:2] == (0, f"vlajepa {version('vlajepa')}\n")


def test_help_loads_neither_hydra_nor_torch() -> None:
    code = (
        "import sys; from jobs.cli import main; main(['preprocess', '--help']); "
        "sys.exit(bool({'hydra', 'torch', 'ray', 'transformers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

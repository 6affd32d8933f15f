"""Completion in a real bash: words after a command line's beginning, as Readline would ask for them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.command_line.commands import COMMANDS
from jobs.command_line.completion import SHELLS, completed_settings, completion_script
from jobs.command_line.config_groups import config_groups
from pipeline.format.settings import describe
from tests.jobs.test_cli import run

ASK = """
source "$1"; line=$2; cd "$3"
COMP_WORDBREAKS=$' \\t\\n"\\'@><=;|&(:'
COMP_LINE=$line; COMP_POINT=${#line}
read -ra spaced <<< "$line"; case $line in *' ') spaced+=("") ;; esac
COMP_WORDS=(); for word in "${spaced[@]}"; do
  case $word in *=*) COMP_WORDS+=("${word%%=*}" "=" "${word#*=}") ;; *) COMP_WORDS+=("$word") ;; esac
done
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
complete -p vlajepa > /dev/null || exit 3
_vlajepa 2> "$4"; printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "vlajepa"
    path.write_text(completion_script("bash"))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("builds/one", "builds/two words", "runs/operator's (1)"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "key.pem").touch()
    return tmp_path


def offered(script: Path, line: str, folder: Path) -> list[str]:
    errors = folder / "errors.txt"
    words = ["bash", "-c", ASK, "bash", str(script), line, str(folder), str(errors)]
    found = subprocess.run(
        words, capture_output=True, text=True, check=True, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    )
    assert errors.read_text() == ""
    errors.unlink()
    return [word for word in found.stdout.splitlines() if word]


CASES = [
    ("vlajepa pre", ["preprocess"]),
    ("vlajepa --c", ["--completion"]),
    ("vlajepa --completion ", ["bash", "zsh"]),
    ("vlajepa plan enc", ["encoder=", "encoder.batch="]),
    ("vlajepa plan encoder=vitl", ["vitl"]),
    ("vlajepa plan source=lero", ["lerobot"]),
    ("vlajepa train trainer.lr_b", ["trainer.lr_backbone="]),
    ("vlajepa train out=x trainer.bf16=", ["true", "false"]),
    ("vlajepa train trainer.co_training=", ["joint", "alternate"]),
    ("vlajepa train experiment=fine", ["finetune_libero", "finetune_real", "finetune_simpler"]),
    ("vlajepa train builds=[builds/o", ["[builds/one/"]),
    ("vlajepa train builds=[builds/one,builds/t", [r"[builds/one,builds/two\ words/"]),
    ("vlajepa audit bui", ["build=", "builds=", "builds/"]),
    ("vlajepa audit builds/o", ["builds/one/"]),
    ("vlajepa audit level=so", ["source"]),
    ("vlajepa audit builds/one sign_key=k", ["key.pem"]),
    ("vlajepa plan source.root=bui", ["builds/"]),
    ("vlajepa plan source.root=~/bui", ["~/builds/"]),
    ("vlajepa report ru", ["run=", "runs/"]),
    ("vlajepa serve policy=runs/op", [r"runs/operator\'s\ \(1\)/"]),
    ("vlajepa sources bridge", ["bridge"]),
    ("vlajepa train trainer.steps=", []),
    ("vlajepa nonsense x", []),
]


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_words_are_offered(script: Path, folder: Path, line: str, expected: list[str]) -> None:
    found = offered(script, line, folder)
    if line.endswith((" enc", "sources bridge")):
        assert set(expected) <= set(found)
    else:
        assert sorted(found) == sorted(expected)


def test_commands_and_settings_are_those_of_help(script: Path, folder: Path) -> None:
    assert set(offered(script, "vlajepa ", folder)) == {*COMMANDS, "--help", "--version", "--completion"}
    for name, command in COMMANDS.items():
        known = {setting.name for setting in completed_settings(command)}
        own = {each.name for each in describe(command.settings_class()) if each.nested is None}
        assert own | set(config_groups(command.config)) <= known
        assert {word for word in offered(script, f"vlajepa {name} out=x ", folder) if word.endswith("=")} == {
            f"{each}=" for each in known
        }


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in SHELLS:
        assert run(capsys, "--completion", shell) == (0, completion_script(shell), "")
    for words in ((), ("fish",), ("bash", "zsh")):
        code, _, error = run(capsys, "--completion", *words)
        assert (code, "needs the name of a shell: bash or zsh" in error) == (2, True)


def test_completing_takes_next_to_no_time(script: Path, folder: Path) -> None:
    words = [
        "bash",
        "-c",
        f"time ({ASK.replace('$1', str(script))})",
        "bash",
        "",
        "vlajepa train trainer.",
        str(folder),
        "/dev/null",
    ]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    spent = sum(int(m) * 60 + float(s) for m, s in re.findall(r"(?:user|sys)\s+(\d+)m([\d.]+)s", found))
    assert 0 < spent < 0.3


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_understands_it(tmp_path: Path) -> None:
    path = tmp_path / "_vlajepa"
    path.write_text(completion_script("zsh"))
    subprocess.run(["zsh", "-n", str(path)], check=True)
    words = "autoload -U compinit && compinit -D -u; source $0; print -- $_comps[vlajepa]; _vlajepa_values plan encoder"
    found = subprocess.run(
        ["zsh", "-fc", words, str(path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert found[0] == "_vlajepa"
    assert "vitl" in found[1].split()

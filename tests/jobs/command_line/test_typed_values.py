"""What is typed for a path or a text is what Hydra reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from jobs.command_line.commands import COMMANDS
from jobs.command_line.typed_values import as_typed, is_setting, quoted
from pipeline.errors import SettingsError
from pipeline.sources.registry import SOURCES
from tests.jobs.test_cli import run

PARSER = OverridesParser.create()
ODD = [
    "/data/set(1)",
    "a=b",
    "a,b",
    "#1",
    "operator's face",
    '"half quoted',
    "back\\slash",
    "ends in\\",
    "\\'both\\'",
    "опера тор",
    "[a]b",
    "{a: b}",
    "12345",
    "true",
    " leading",
    "a  b",
    "é%20",
    "${oc.env:HOME}",
    "takedown \\${x} of ${",
    "'${oc.env:HOME}",
]


def text_of(value: Any) -> str:
    """What the command gets, once OmegaConf has resolved the configuration."""
    text = value.text if hasattr(value, "text") else value
    resolved = OmegaConf.to_container(OmegaConf.create({"value": text}), resolve=True)
    assert isinstance(resolved, dict)
    return str(resolved["value"])


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize(
    ("command", "key"), [("audit", "build"), ("preprocess", "source.root"), ("train", "out"), ("drop", "reason")]
)
def test_a_text_is_what_was_typed(command: str, key: str, value: str) -> None:
    (typed,) = as_typed((COMMANDS[command].settings_class(), *SOURCES.values()), [f"{key}={value}"])
    assert text_of(PARSER.parse_override(typed).value()) == value


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("${}\\'"), min_size=1))
def test_any_text_comes_through_quotes(value: str) -> None:
    assert text_of(PARSER.parse_override(f"key={quoted(value)}").value()) == value


def test_items_of_a_list_are_texts_too() -> None:
    (typed,) = as_typed((COMMANDS["train"].settings_class(),), ["builds=[~/x,s3://b/c d,'/a,b', /p(1)]"])
    values = [text_of(item) for item in PARSER.parse_override(typed).value()]
    assert values == [f"{Path.home()}/x", "s3://b/c d", "/a,b", "/p(1)"]


@pytest.mark.parametrize("word", ["out=~", "out=~/runs/a"])
def test_the_home_folder_is_found(word: str) -> None:
    (typed,) = as_typed((COMMANDS["train"].settings_class(),), [word])
    assert text_of(PARSER.parse_override(typed).value()) == word.removeprefix("out=").replace("~", str(Path.home()))


@pytest.mark.parametrize(
    "word",
    [
        "trainer.steps=3",
        "model=tiny",
        "out='as it is'",
        'out="as it is"',
        "init_from=null",
        "weights=[1,2]",
        "--help",
        "-m",
        "nothing=a b",
        "trainer.verify=off",
        "trainer.steps=${trainer.warmup_steps}",
    ],
)
def test_everything_else_is_left_to_hydra(word: str) -> None:
    assert as_typed((COMMANDS["train"].settings_class(),), [word]) == [word]


def test_what_is_quoted_already_is_replaced_by_nothing_either() -> None:
    (typed,) = as_typed((COMMANDS["drop"].settings_class(),), ["reason='takedown ${oc.env:HOME}'"])
    assert text_of(PARSER.parse_override(typed).value()) == "takedown ${oc.env:HOME}"


@pytest.mark.parametrize("word", ["out=", "out=''", 'out=""'])
def test_an_empty_path_is_refused(word: str) -> None:
    with pytest.raises(SettingsError, match="out= is empty; give a path"):
        as_typed((COMMANDS["train"].settings_class(),), [word])


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_several_runs_of_one_line_are_refused_with_what_to_do(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    code, _, error = run(capsys, "train", "builds=[/a]", "out=/b", flag, "trainer.lr_rest=1e-3,3e-3")
    assert code == 2
    assert "-m (several runs of one line) is not offered" in error
    assert "out=/runs/lr-$lr" in error


@pytest.mark.parametrize(
    ("word", "expected"),
    [("a=b", True), ("+a.b@c=d", True), ("hydra/job_logging=none", True), ("/a=b", False), ("data/a=b", False)],
)
def test_a_path_with_an_equals_sign_is_no_setting(word: str, expected: bool) -> None:
    assert is_setting(word) == expected

"""README and the pages of docs/ against the code: no command line in them that the settings would refuse.

Links and the index are checked where the pages are built: `make docs`.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import cli
from jobs.command_line import hydra_application
from jobs.command_line.commands import COMMANDS
from jobs.command_line.hydra_application import offer_manifests
from pipeline.sources.lerobot.source import LeRobotSource

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_" not in p.parent.name)]
FENCED = re.compile(r"^( *)```[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(vlajepa [^`]+)`")
COMMAND = re.compile(r"(?:^|\s)(?:vlajepa|-m jobs\.cli)\s+(.+)")
SHOWN = 46
"""Command lines at the time of writing: a rule that suddenly finds none must not pass."""


def command_lines() -> Iterator[str]:
    """What follows `vlajepa` or `-m jobs.cli` in fenced blocks and code spans, without comments."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = [match[2].replace("\\\n", " ") for match in FENCED.finditer(text)]
        spans = [" ".join(span.split()) for span in SPAN.findall(FENCED.sub("", text))]
        for line in [*"\n".join(blocks).splitlines(), *spans]:
            found = COMMAND.search(line)
            if found and not line.lstrip().startswith("#"):
                yield shlex.join(shlex.split(found[1], comments=True))


LINES = sorted(set(command_lines()))
WHOLE = [line for line in LINES if " " in line and "…" not in line]
"""Command lines with settings; `…` stands for what the reader fills in."""


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_every_page_says_whom_it_is_for() -> None:
    pages = [page for page in PAGES[1:] if "{include}" not in page.read_text(encoding="utf-8")]
    for page in [*pages, ROOT / "manifests" / "README.md"]:
        text = re.sub(r"\A---\n.*?^---\n", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert text.splitlines()[1].startswith("For "), page


def test_every_command_is_shown_and_exists() -> None:
    assert len(WHOLE) >= SHOWN
    assert {shlex.split(line)[0] for line in LINES} - {"--help", "--completion"} == set(COMMANDS) - {
        "demo"
    }  # `make demo`


@pytest.fixture(scope="module")
def manifests() -> None:
    """The manifests as choices of `source=`; once, as reading them takes most of the time."""
    offer_manifests(None)


@pytest.mark.usefixtures("manifests")
@pytest.mark.parametrize("line", WHOLE)
def test_a_command_line_is_accepted(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_accepted(line, monkeypatch, capsys)


def require_accepted(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line's own way up to the composed configuration, without the command."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(hydra_application, "offer_manifests", lambda _: None)
    monkeypatch.setattr("hydra.main", lambda **_: lambda _: lambda: None)
    try:
        cli.main([word.split("|")[0] for word in shlex.split(line)])  # of alternatives the first
    except SystemExit as end:
        pytest.fail(f"exit code {end.code}: {capsys.readouterr().err}")


@pytest.mark.usefixtures("manifests")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_is_accepted(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_accepted(f"{name} {COMMANDS[name].example}", monkeypatch, capsys)


def test_the_dataset_that_the_guide_writes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/guides/own-dataset.md").read_text(encoding="utf-8")
    (block,) = [match[2] for match in FENCED.finditer(page) if match[0].startswith("```python")]
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    views = ("head", "left_wrist", "right_wrist")
    source = LeRobotSource(root=str(tmp_path / "own-data"), name="arms", val_share=0.05, cameras=views)
    index = source.index()
    assert (index.views, index.state_dim, index.action_dim, len(index.refs)) == (views, 14, 14, 4)
    assert [ref.split for ref in index.refs] == ["train", "train", "train", "val"]
    episode = source.open(index.refs[1])
    try:
        assert episode.frames("left_wrist", [0, 29]).shape == (2, 96, 96, 3)
        assert episode.instruction(29) == "lift block 1"
    finally:
        episode.close()

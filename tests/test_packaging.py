"""What a fresh machine relies on: Dockerfile, Makefile, README and docs/ speak of the same files and commands."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.leakage.__main__ import GALLERY, summary
from tests.leakage.mutants import MUTANTS
from tests.leakage.pipelines import LEAKY_CODE, LEAKY_PIPELINES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def dockerfile_copies() -> set[str]:
    lines = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return {word.removeprefix("./") for line in lines if "--from=" not in line for word in line.split()}


def test_the_image_holds_everything_the_commands_need() -> None:
    copies = dockerfile_copies()
    assert all((ROOT / name).exists() for name in copies)
    wanted = {
        "vlajepa",
        "pipeline",
        "model",
        "jobs",
        "manifests",
        "pyproject.toml",
        "constraints.txt",
    }
    assert wanted <= copies


def test_every_make_target_of_the_pages_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    pages = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"^make ([\w-]+) *(?:#.*)?$|`make ([\w-]+)`", pages, re.MULTILINE))
    assert {a or b for a, b in named} <= targets


@pytest.mark.parametrize("group", ["dependencies", "dev", "docs", "mcap", "rlds", "slow"])
def test_constraints_pin_every_dependency(group: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] if group == "dependencies" else project["optional-dependencies"][group]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    names = {re.split(r"[\[<>=]", item)[0].lower() for item in wanted}
    assert names <= pinned


def test_the_wheel_holds_every_module_and_what_they_read() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = settings["packages"]["find"]["include"]
    for folder in ("vlajepa", "pipeline", "model", "jobs"):
        data = {path for p in settings["package-data"].get(folder, ()) for path in (ROOT / folder).glob(p)}
        for path in (ROOT / folder).rglob("*"):
            if path.suffix == ".py":
                name = ".".join(path.relative_to(ROOT).parent.parts)
                assert any(fnmatch(name, pattern) for pattern in packaged), path
            elif path.is_file() and "__pycache__" not in path.parts:
                assert path in data, path


def test_ci_runs_the_readmes_test_command() -> None:
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("make test")


def test_the_page_of_the_audit_counts_the_gallery_of_leaks() -> None:
    page = (ROOT / "docs" / "audit.md").read_text()
    assert summary() in page
    for count in (len(GALLERY), len(MUTANTS), len(LEAKY_PIPELINES), len(LEAKY_CODE)):
        assert str(count) in page[page.index("## A gallery of leaks") :]

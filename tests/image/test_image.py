"""The image: what pip is told while it is built, and (slow) that it is built and makes an audited build."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

import pytest

from tests.image.__main__ import build_and_check
from tests.image.builder import missing_tool
from tests.image.pip_settings import parse


def test_variables_of_pip_come_before_its_files_and_named_folders_are_kept(tmp_path: Path) -> None:
    (tmp_path / "index/simple").mkdir(parents=True)
    (tmp_path / "wheels").mkdir()
    found = parse(
        f":env:.find-links='{tmp_path}/wheels'\n"
        f"global.extra-index-url='file://{tmp_path}/index/simple\\nhttps://example.com/simple'\n"
        "global.find-links='/nowhere'\n"
        "install.no-cache-dir='true'\n"
    )
    written = configparser.RawConfigParser()
    written.read_string(found.text)
    assert dict(written["global"]) == {
        "extra-index-url": f"file://{tmp_path}/index/simple\nhttps://example.com/simple",
        "find-links": f"{tmp_path}/wheels",
    }
    assert written.sections() == ["global"]
    assert found.paths == (tmp_path / "index", tmp_path / "wheels")


@pytest.mark.slow
def test_the_image_makes_an_audited_build(tmp_path: Path) -> None:
    """Twenty minutes on a busy machine, 15 GB."""
    if reason := missing_tool():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    report = build_and_check(tmp_path)
    assert "CLEAN: " in report.output[-1]
    assert report.bytes < 10e9

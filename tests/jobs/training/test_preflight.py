"""What a node of a training says of builds that it sees, and of those that it does not."""

from __future__ import annotations

import hashlib
from pathlib import Path

from jobs.training.preflight import missing_builds


def test_a_build_must_be_there_and_be_the_drivers(tmp_path: Path) -> None:
    content = b'{"name": "a"}'
    builds = [(str(tmp_path), hashlib.sha256(content).hexdigest())]
    assert missing_builds(builds) == f"there is no build at {tmp_path}; mount it under the same path on every node"
    (tmp_path / "build.json").write_bytes(content)
    assert missing_builds(builds) == ""
    (tmp_path / "build.json").write_bytes(content + b" ")
    assert missing_builds(builds).startswith(f"{tmp_path} is another build than the driver's")


def test_a_bucket_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    found = missing_builds([("ftp://nowhere/build", "0" * 64)])
    assert found.startswith("the build is out of reach: ")
    assert "ftp://nowhere/build" in found

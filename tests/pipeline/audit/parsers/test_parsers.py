"""Tar, JPEG, JSON and statistics parsers alone: they accept what standard writers make, and nothing around it."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.audit.parsers.jpeg import parse_jpeg
from pipeline.audit.parsers.key_json import Expected, check_document
from pipeline.audit.parsers.tar import Member, parse_tar
from pipeline.audit.rederive.recount import Recount
from pipeline.format.json.documents import StatisticsContent
from tests.pipeline.audit.tiny_build import compact, jpeg, summary


def tar_of(sizes: list[int]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for i, size in enumerate(sizes):
            info = tarfile.TarInfo(f"m{i}")
            info.size, info.mode = size, 0o444
            tar.addfile(info, io.BytesIO(b"x" * size))
    return buffer.getvalue()


@pytest.mark.parametrize("sizes", [[], [0], [1, 511, 512, 513], [8192 - 512], [8192], [9217] * 3])
def test_tar_of_the_standard_library_is_accepted(sizes: list[int]) -> None:
    tar = parse_tar(memoryview(tar_of(sizes)))
    assert tar.problems == ()
    assert [(m.name, m.size) for m in tar.members] == [(f"m{i}", size) for i, size in enumerate(sizes)]


def test_every_byte_of_a_tar_matters() -> None:
    """Flip each byte outside payloads in turn: none may pass."""
    clean = tar_of([3])
    members = (Member("m0", 512, 3),)
    for at in [*range(512), *range(515, len(clean), 97), len(clean) - 1]:
        data = bytearray(clean)
        data[at] ^= 1
        tar = parse_tar(memoryview(data))
        assert tar.problems or tar.members != members, f"byte {at}"


@given(st.binary(max_size=2000))
@settings(max_examples=100, deadline=None)
def test_parsers_never_raise(data: bytes) -> None:
    parse_tar(memoryview(data))
    parse_jpeg(data, 16)
    parse_jpeg(b"\xff\xd8\xff\xe0" + data, 16)
    check_document(data, EXPECTED)


@pytest.mark.parametrize("options", [{}, {"quality": 30}, {"subsampling": 2}, {"optimize": True}])
def test_baseline_jpeg_is_accepted(options: dict[str, int]) -> None:
    assert parse_jpeg(jpeg(3, 1, 64, **options), 64).problem == ""


def test_restart_markers_are_refused() -> None:
    """The bits that fill a byte before each of them are free."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", restart_marker_rows=1)
    assert "restarts (DRI), which is not allowed" in parse_jpeg(buffer.getvalue(), 64).problem


def test_grey_jpeg_is_refused() -> None:
    buffer = io.BytesIO()
    Image.new("L", (16, 16)).save(buffer, "JPEG")
    assert "three components" in parse_jpeg(buffer.getvalue(), 16).problem


def test_jpeg_layout_depends_on_tables_but_not_on_pixels() -> None:
    assert parse_jpeg(jpeg(3, 1, 16), 16).layout == parse_jpeg(jpeg(9, 0, 16), 16).layout
    assert parse_jpeg(jpeg(3, 1, 16), 16).layout != parse_jpeg(jpeg(3, 1, 16, quality=89), 16).layout


EXPECTED = Expected("e-000003", "e", 3, "tiny", ["front"], "pick «it»", 2)
DOCUMENT = {
    "episode": "e",
    "instruction": "pick «it»",
    "key": "e-000003",
    "now": 3,
    "source": "tiny",
    "state": [0.1, -2.0],
    "views": ["front"],
}


def test_document_that_fits_is_accepted() -> None:
    value, problems = check_document(compact(DOCUMENT) + b"\n", EXPECTED)
    assert (value, problems) == (DOCUMENT, ())


def test_instruction_given_by_frame_is_only_checked_for_being_there() -> None:
    by_frame = replace(EXPECTED, instruction=None)
    assert check_document(compact({**DOCUMENT, "instruction": "other"}) + b"\n", by_frame)[1] == ()
    assert check_document(compact({**DOCUMENT, "instruction": ""}) + b"\n", by_frame)[1][0].rule == "L9"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"now": True}, "L10"),
        ({"now": 3.0}, "L10"),
        ({"state": [0, 1]}, "L10"),
        ({"state": [0.1, 0.10000000149011612]}, "L10"),  # the float64 of float32(0.1): digits to hide in
        ({"state": [1e39, 0.0]}, "L10"),
        ({"state": None}, "L8"),
        ({"state": [0.5]}, "L8"),
        ({"views": ["front", 1]}, "L10"),
        ({"source": "libero"}, "L7"),
        ({"key": "e-000004"}, "L7"),
        ({"now": 4}, "L1"),
    ],
)
def test_document_that_does_not_fit(change: dict[str, object], rule: str) -> None:
    problems = check_document(compact({**DOCUMENT, **change}) + b"\n", EXPECTED)[1]
    assert [p.rule for p in problems] == [rule]


@pytest.mark.parametrize("text", [compact(DOCUMENT), compact(DOCUMENT) + b"\n\n", b" " + compact(DOCUMENT) + b"\n"])
def test_document_has_one_spelling(text: bytes) -> None:
    assert [p.rule for p in check_document(text, EXPECTED)[1]] == ["L10"]


values = st.lists(st.integers(-5, 5) | st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60)


@given(values, st.integers(1, 7))
@settings(max_examples=200, deadline=None)
def test_recount_agrees_with_exact_fractions_and_with_nothing_else(numbers: list[float], pieces: int) -> None:
    """Moments and quantiles, streamed in pieces, with ties and outliers; a last bit that moves is noticed."""
    column = np.array(numbers, np.float64)[:, None]
    claim = summary(column)
    assert differences(claim, column, pieces) == []
    for name in ("min", "max", "mean", "std", "q01", "q99"):
        for towards in (-np.inf, np.inf):
            moved = float(np.nextafter(claim[name][0], towards))
            wrong = differences({**claim, name: [moved]}, column, pieces)
            assert len(wrong) == 1
            assert wrong[0].startswith(name)
    assert differences({**claim, "count": len(column) + 1}, column, pieces)[0].startswith("count")


def differences(claim: StatisticsContent, column: np.ndarray, pieces: int) -> list[str]:
    recount = Recount(claim, 1)
    for part in np.array_split(column, pieces):
        recount.add(part)
    return recount.differences()

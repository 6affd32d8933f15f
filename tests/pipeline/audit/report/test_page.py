"""The page of an audit: its content, that it is made for any build, and that nothing in it is active."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from jobs.audit.audit import sheets
from pipeline.audit.build import open_build
from pipeline.audit.duplicates.search import Match
from pipeline.audit.finding import RULES, Finding
from pipeline.audit.levels.run import audit_build
from pipeline.audit.report.evidence import DuplicatePair, Evidence, Sheet, Still
from pipeline.audit.report.offsets import support_offsets
from pipeline.audit.report.page import RULE_TEXTS, render, write_report
from pipeline.audit.report.stored_images import choose_samples, stored_sheets
from tests.browser import SCREENS, Scheme, opened, require_readable
from tests.leakage.marks import one_a_rule
from tests.leakage.mutants import MUTANTS
from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import edit_json, edit_rows, read_rows
from tests.pipeline.audit.tiny_build import ROBOT, compact, rehash, write_build

HOSTILE = "<script>alert(1)</script>\"'&\x07" + "long" * 1000


def _jpeg(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (32, 24), grey).save(buffer, "JPEG")
    return buffer.getvalue()


def _page(build: Path, evidence: Evidence | None = None) -> str:
    verdict = audit_build(build)
    return render(open_build(build), verdict, evidence or Evidence(sheets(build, verdict)))


def _duplicate() -> DuplicatePair:
    pairs = tuple((Still(i, _jpeg(20 * i)), Still(i + 3, _jpeg(20 * i))) for i in range(3))
    return DuplicatePair(Match("ep_c", "val", "front", "ep_a", "front", "time-reversed", 0.75, 0.99, ()), pairs)


def _rich(build: Path) -> Evidence:
    """Evidence as levels source and perturb leave it."""
    (first, *_) = stored_sheets(open_build(build), ["ep_a-000001"])
    strip = replace(
        first,
        past=(Still(0, _jpeg(10)),),
        current=Still(1, _jpeg(90)),
        future=(Still(3, _jpeg(200)), Still(5, _jpeg(220))),
    )
    return Evidence([strip], [_duplicate()])


def test_clean_page_lists_every_rule(tmp_path: Path) -> None:
    page = _page(write_build(tmp_path / "build"))
    assert '<h1 id="verdict">CLEAN</h1>' in page
    for rule, (name, text) in RULE_TEXTS.items():
        assert f"{rule} {name}" in page
        assert text.replace("'", "&#39;") in page
    assert page.count("not checked at this level") == 2  # L4, L5
    assert "broken</span>" not in page
    assert page.count("<img") == page.count('alt="') == 12  # six random samples, two views


def test_ledger_and_splits_are_counted(tmp_path: Path) -> None:
    page = re.sub(r"\s+", " ", _page(write_build(tmp_path / "build")))
    assert '<th scope="row">undecodable</th><td class="number">1</td><td class="number">unknown</td>' in page
    assert '<th scope="row">train</th><td class="number">14</td><td class="number">2</td>' in page
    assert '<th scope="row">val</th><td class="number">7</td><td class="number">1</td>' in page


def test_histogram_counts_every_frame_of_every_step(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    steps = support_offsets(open_build(build))
    rows = read_rows(build)
    for step, found in enumerate(steps):
        offsets = [frame - row["now"] for row in rows for frame in row["supports"][step]]
        assert dict(found.counts) == {offset: offsets.count(offset) for offset in set(offsets)}
        assert found.masked == sum(not row["supports"][step] for row in rows)
    assert max(offset for offset, _ in steps[0].counts) == 0
    assert "step 1, frame now+4: 21 samples" in _page(build)


def test_findings_have_their_images(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    next(m for m in MUTANTS if m.name == "bytes_after_the_image").apply(build)
    page = _page(build)
    assert "LEAK" in page
    assert "6 bytes after its end" in page
    assert 'alt="stored input of ep_a-000001, view front, now 1"' in page


def test_strips_and_duplicates_show_frame_numbers(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    page = _page(build, _rich(build))
    for text in ("raw frame 0, before now", "raw frame 1, now", "raw frame 5, after now", "75 % of the frames"):
        assert text in page
    assert "time-reversed copy" in page


@pytest.mark.parametrize("mutant", list(one_a_rule(MUTANTS)))
def test_a_page_is_made_of_every_broken_build(tmp_path: Path, mutant: Mutant) -> None:
    build = write_build(tmp_path / "build", mutant.world)
    mutant.apply(build)
    verdict = audit_build(build)
    assert verdict.headline in ("LEAK", "DAMAGED OR ALTERED")
    assert verdict.headline in render(open_build(build), verdict, Evidence(sheets(build, verdict)))


def test_nothing_in_a_build_becomes_markup(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    edit_json(build, "build.json", lambda d: d.update(name=HOSTILE))
    edit_rows(build, lambda rows: [row.update(source=HOSTILE) for row in rows])
    (build / "ledger.jsonl").write_bytes(
        compact({"episode": HOSTILE, "stage": HOSTILE, "reason": HOSTILE}) + b"\n<b>\n"
    )
    rehash(build)
    page = _page(build)
    assert "<script" not in page
    assert "\x07" not in page
    assert "&lt;script&gt;" in page
    assert "longlonglong" * 60 not in page


def test_page_fetches_nothing(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    page = _page(build, _rich(build))
    assert "default-src 'none'" in page.replace("&#39;", "'")
    assert not re.search(r"(src|href|url\()\s*=?\s*[\"']?(https?:|//|file:)", page)
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)"', page))


def test_a_thousand_findings_make_a_page_of_bounded_size(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    verdict = audit_build(build)
    many = tuple(Finding("L7", f"k-{i:06d}", "train/inputs-000000.tar", "x" * 5000) for i in range(1000))
    images = [Sheet(f"k-{i:06d}", "front", 0, _jpeg(5)) for i in range(1000)]
    page = render(open_build(build), replace(verdict, findings=many), Evidence(images))
    assert len(page) < 500_000
    assert page.count("stored input of k-") <= 80


def test_images_of_a_broken_manifest_are_missing_and_not_a_crash(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    edit_rows(build, lambda rows: rows[0].update(image_offset=[-5, 10**12], image_size=[10, 2**30]))
    assert [sheet.stored for sheet in stored_sheets(open_build(build), ["ep_a-000000", "nothing"])] == [b"", b""]
    (build / "train/inputs-000000.tar").unlink()
    assert stored_sheets(open_build(build), ["ep_a-000001"])[0].stored == b""
    assert "missing" in _page(build)


def test_random_samples_follow_from_the_seed(tmp_path: Path) -> None:
    build = open_build(write_build(tmp_path / "build"))
    assert choose_samples(build, 5, 1) == choose_samples(build, 5, 1) != choose_samples(build, 5, 2)
    assert len(choose_samples(build, 100, 0)) == 21


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), SCREENS)
@pytest.mark.parametrize("kind", ["clean", "leak"])
def test_page_renders_in_a_browser(chromium: str, tmp_path: Path, kind: str, width: int, scheme: Scheme) -> None:
    """Every image decoded, every text readable, nothing wider than the screen."""
    build = write_build(tmp_path / "build", replace(ROBOT, image_size=16))
    if kind == "leak":
        next(m for m in MUTANTS if m.name == "exif").apply(build)
    verdict = audit_build(build)
    evidence = _rich(build)
    evidence.sheets += sheets(build, verdict)
    with opened(chromium, write_report(open_build(build), verdict, evidence), width, scheme) as page:
        assert page.locator("#verdict").inner_text() == ("CLEAN" if kind == "clean" else "LEAK")
        assert page.locator("#verdict").is_visible()
        widths = page.evaluate("Array.from(document.images, image => image.naturalWidth)")
        assert len(widths) > 10
        assert all(widths)
        assert page.locator("svg rect").count() >= 6
        require_readable(page, width)


def test_rule_texts_cover_every_rule() -> None:
    assert tuple(RULE_TEXTS) == RULES

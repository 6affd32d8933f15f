"""Cards: a header that the Hub reads, what the files say, and nothing that a text in a build could make of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from jobs.sharing.audit_status import AuditStatus
from jobs.sharing.cards.dataset_card import dataset_card
from jobs.sharing.cards.held_out_results import results_section
from jobs.sharing.cards.markdown import code, code_block, front_matter
from jobs.sharing.cards.model_card import model_card
from model.checkpoint.vouched import Voucher
from pipeline.audit.verdicts.gate import Passed
from pipeline.format.build import Build, read_build
from tests.pipeline.audit.tiny_build import VIDEO, write_build

MARKDOWN = MarkdownIt("commonmark").enable("table")
PASSED = AuditStatus(Passed("shards", "a" * 64, True, "unsigned", False))
FACTS = {
    "name": "x",
    "title": "A dataset",
    "version": "1",
    "licence": "CC BY 4.0",
    "publisher": "somebody",
    "citation": "Walke et al., 2023",
    "sha256": "b" * 64,
}
HOSTILE = (
    "``` </code><script>alert(1)</script> [here](http://evil) ![p](http://evil/p.png) | # title\n---\nlicense: mit\n"
    "---\n"
    "<b>bold</b> **b** http://evil.example www.evil.example me@evil.example \u202ereversed &lt; $x$ ~~~\n\n"
    "# Heading\n* a"
)


def split_card(card: str) -> tuple[dict[str, Any], str]:
    """Header and text, as the Hub takes them apart."""
    empty, header, text = card.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(header), text


def tokens_of(text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for token in MARKDOWN.parse(text):
        found[token.type] += 1
        found.update(child.type for child in token.children or ())
    return found


def card_of(build: Build, facts: Any = None, **changes: Any) -> str:
    settings = {**build.manifest["settings"], "dataset": facts}
    opened = replace(build, manifest={**build.manifest, "settings": settings, **changes})
    return dataset_card(opened, "c" * 64, PASSED, [], "hf://datasets/me/robot", None)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    folder = write_build(tmp_path / "build")
    return read_build((folder / "build.json").read_bytes(), folder)


def test_the_header_is_what_the_hub_reads(build: Build) -> None:
    header, text = split_card(card_of(build, FACTS))
    assert header == {
        "pretty_name": "tiny",
        "license": "cc-by-4.0",
        "task_categories": ["robotics"],
        "tags": ["vla-jepa", "v-jepa2", "webdataset", "robotics"],
        "size_categories": ["n<1K"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "build/train/inputs-*.tar"},
                    {"split": "val", "path": "build/val/inputs-*.tar"},
                ],
            }
        ],
    }
    for said in (
        "made from: `A dataset`, version `1`",
        "current frame of `front`, `wrist`, 16 pixels square",
        "state of 3 channels; chunks of 6 actions of 2 channels",
        "2 future steps, 2 source frames apart",
        "in mode `prefix`",
        "`float16`",
        "| train | 14 | 2 | 2 |",
        "Found **clean** at level `shards`. Nobody signed the verdict.",
        "The source data: `CC BY 4.0`",
        "```text\nWalke et al., 2023\n```",
        build.fingerprint,
        "hf download me/robot --repo-type dataset",
    ):
        assert said in text, (said, text)
    assert split_card(card_of(build))[0]["license"] == "other"


def test_a_build_of_human_video_says_so(tmp_path: Path) -> None:
    folder = write_build(tmp_path / "build", VIDEO)
    header, text = split_card(card_of(read_build((folder / "build.json").read_bytes(), folder)))
    assert header["tags"][-1] == "video"
    assert "no state and no actions (human video)" in text


def test_hostile_texts_make_nothing_of_their_own(build: Build) -> None:
    """The same headings, links and blocks as of a harmless build, and the same header."""
    settings, facts = build.manifest["settings"], dict.fromkeys(FACTS, HOSTILE)
    encoder = {**settings["encoder"], "kind": HOSTILE, "weights_sha256": HOSTILE}
    hostile = {**settings, "encoder": encoder, "source": {**settings["source"], "type": HOSTILE}, "dataset": facts}
    opened = replace(build, manifest={**build.manifest, "settings": hostile})
    card = dataset_card(opened, "c" * 64, PASSED, [], "hf://datasets/me/robot", None)
    header, text = split_card(card)
    good_header, good = split_card(card_of(build, FACTS))
    assert tokens_of(text) == tokens_of(good)
    assert header == {**good_header, "license": "other"}
    assert "\u202e" not in card


def test_hostile_checkpoints_and_results_make_nothing_of_their_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / "metrics.jsonl").write_text("")

    def card(name: str) -> str:
        interval = {"value": 1.5, "low": 1.25, "high": 2, "pairs": 1000, "groups": 3}
        numbers = {
            "model": 0.5,
            "nothing_changes": float("nan") if name == HOSTILE else None,
            "action": 0.25,
            "latent_action_reliance": {name: {"all": interval}},
            "image_reliance": {name: interval},
            "two_alternative": interval,
        }
        (run / "held_out.json").write_text(json.dumps({name: numbers}).replace("NaN", "null"))
        state = {"step": 7, "builds": {name: name}, "model": {name: {name: name}, "a": [1]}}
        voucher = Voucher(name, "clean at level shards", name, False, True)
        return model_card(state, "d" * 64, [voucher], results_section(run), "hf://me/policy", "mit")

    header, text = split_card(card(HOSTILE))
    good_header, good = split_card(card("robot"))
    assert tokens_of(text) == tokens_of(good)
    assert (
        header
        == good_header
        == {
            "license": "mit",
            "pipeline_tag": "robotics",
            "tags": ["vla-jepa", "v-jepa2", "robotics"],
        }
    )
    for said in (
        "# VLA-JEPA checkpoint, step 7",
        "- `robot.robot`: `robot`",
        "world-model loss (L1, teacher forced): 0.5000",
        "latent-action reliance, `robot`: 1.500 (1.250 to 2.000), 1,000 pairs",
        "image reliance of the action loss, `robot`: 1.500",
        "action loss: 0.2500",
    ):
        assert said in good, (said, good)


@given(st.text(alphabet=st.sampled_from("` \n~<>|[]()!*_#-&@\\\x00\u2028a"), min_size=1))
def test_any_text_is_one_code_span_and_one_block(text: str) -> None:
    span = MARKDOWN.parse(f"a {code(text)} z")
    assert [token.type for token in span] == ["paragraph_open", "inline", "paragraph_close"]
    assert [child.type for child in span[1].children or ()] in (["text", "code_inline", "text"], ["text"])
    assert [token.type for token in MARKDOWN.parse(code_block(text))] == ["fence"]
    assert yaml.safe_load(front_matter({"name": text}).split("---\n")[1]) == {"name": text}

"""Who vouches for a checkpoint's data, through state.json and what a run starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint.state_file import write_state
from model.checkpoint.vouched import VOUCHED, Voucher, as_json, vouched, vouched_of
from pipeline.errors import BuildError

SIGNED = Voucher("droid", "clean at level source, build.json 12", "ab12", True, True)
CLAIMED = Voucher("ssv2", "clean at level shards, build.json 34", "cd34", False, True)
UNSIGNED = Voucher("own", "leaky", "unsigned", False, True)


def test_the_entries_come_back_from_a_checkpoint_a_run_and_in_order(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000003"
    checkpoint.mkdir(parents=True)
    write_state(checkpoint, {"step": 3, VOUCHED: as_json([SIGNED, CLAIMED])})
    assert vouched_of(checkpoint) == vouched_of(tmp_path / "run") == (SIGNED, CLAIMED)


def test_of_weights_from_elsewhere_nothing_is_known(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.touch()
    unknown = (Voucher(str(file), "unknown", "unsigned", False, False),)
    assert vouched_of(file) == unknown
    assert vouched({"imported_from": str(file)}) == unknown


def test_a_signature_that_was_not_checked_is_a_claim() -> None:
    assert SIGNED.text == "droid: clean at level source, build.json 12, signed by ab12"
    assert CLAIMED.text.endswith("signed by cd34 (a claim: trainer.public_key= checks it)")
    assert UNSIGNED.text == "own: leaky, unsigned"


def test_samples_that_were_not_compared_are_named_whatever_comes_later() -> None:
    loose = replace(SIGNED, compared=False)
    assert loose.text.endswith("; SAMPLES WERE NOT COMPARED with what was audited (trainer.verify=off)")
    assert SIGNED.after(loose) == loose.after(SIGNED) == loose
    assert SIGNED.after(SIGNED) == SIGNED


@pytest.mark.parametrize(
    "entries",
    [None, [], 7, "x", [{}], [[1]], [{"build": "a"}], [as_json([SIGNED])[0] | {"checked": "perhaps"}], [None]],
)
def test_entries_of_another_form_are_refused(entries: Any) -> None:
    with pytest.raises(BuildError, match=r"state\.json: vouched is not as this version writes it"):
        vouched({VOUCHED: entries})

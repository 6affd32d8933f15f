"""Leaky manifests: frames, times, keys, order, counts. See mutants.py."""

from __future__ import annotations

from pathlib import Path

from tests.leakage.mutants.mutant import Mutant, set_column
from tests.leakage.tools import edit_json, edit_rows, refingerprint
from tests.pipeline.audit.tiny_build import Row


def future_now(build: Path) -> None:
    """The context was encoded at frame 4, the manifest has now=3."""
    edit_rows(build, lambda rows: rows[4].update(now=3, key="ep_a-000003x", state_frame=3, action_start=3))


def context_straddles_now(build: Path) -> None:
    """The reference's mistake: the first tubelet starts at `now`."""
    edit_rows(build, set_column("supports", [[4, 6], [6, 8], [10, 12]]))


def context_frame_in_the_future_hidden_in_the_middle(build: Path) -> None:
    edit_rows(build, set_column("supports", [[2, 5, 4], [6, 8], [10, 12]]))


def prefix_too_long(build: Path) -> None:
    edit_rows(build, set_column("supports", [[2, 4], [6, 8, 9, 10], [10, 12]]))


def support_off_by_one(build: Path) -> None:
    edit_rows(build, set_column("supports", [[2, 4], [7, 9], [10, 12]]))


def support_past_the_end(build: Path) -> None:
    """Row 6 is now=6: its second future step would end at frame 14 of 13."""
    edit_rows(build, set_column("supports", [[4, 6], [8, 10], [12, 14]], row=6))


def valid_step_masked(build: Path) -> None:
    edit_rows(build, set_column("supports", [[2, 4], [], [10, 12]]))


def other_interval(build: Path) -> None:
    edit_rows(build, set_column("interval", 3))


def state_of_the_last_frame(build: Path) -> None:
    edit_rows(build, set_column("state_frame", 12))


def state_of_an_earlier_frame(build: Path) -> None:
    edit_rows(build, set_column("state_frame", 3))


def actions_past_the_end(build: Path) -> None:
    """Row 8 is now=8: five of the chunk's six actions exist."""
    edit_rows(build, lambda rows: rows[8].update(action_count=6))


def actions_from_later(build: Path) -> None:
    edit_rows(build, set_column("action_start", 5))


def context_time_is_not_now(build: Path) -> None:
    edit_rows(build, set_column("support_end_s", [0.5, 0.8, 1.2]))


def times_do_not_rise(build: Path) -> None:
    edit_rows(build, set_column("support_end_s", [0.4, 1.2, 0.8]))


def time_invented_for_a_masked_step(build: Path) -> None:
    edit_rows(build, set_column("support_end_s", [0.6, 1.0, 1.4], row=6))


def longer_episode_than_planned(build: Path) -> None:
    edit_rows(build, set_column("num_frames", 14))


def duplicate_key(build: Path) -> None:
    def edit(rows: list[Row]) -> None:
        rows[5] = {**rows[4], "row": rows[5]["row"]}

    edit_rows(build, edit)


def swapped_keys(build: Path) -> None:
    def edit(rows: list[Row]) -> None:
        rows[4]["key"], rows[5]["key"] = rows[5]["key"], rows[4]["key"]

    edit_rows(build, edit)


def missing_manifest_row(build: Path) -> None:
    edit_rows(build, lambda rows: rows.pop(4))


def unsorted_manifest(build: Path) -> None:
    edit_rows(build, lambda rows: rows.reverse())


def other_source(build: Path) -> None:
    edit_rows(build, set_column("source", "libero_test"))


def _state_from(build: Path, **part: str) -> None:
    """Another recipe for the state, with every fingerprint repaired."""
    edit_json(build, "build.json", lambda d: d["settings"]["source"].update(state=[part]), repair=False)
    refingerprint(build)


def state_from_the_next_pose(build: Path) -> None:
    _state_from(build, field="pose", convert="pose_reached")


def state_from_a_gripper_made_absolute(build: Path) -> None:
    """Before the first command it knows what the first command will be."""
    _state_from(build, field="grip", convert="relative_gripper")


def state_from_the_action(build: Path) -> None:
    _state_from(build, field="command", convert="none")


def wrong_counts(build: Path) -> None:
    edit_json(build, "build.json", lambda d: d["counts"]["train"].update(samples=15))


MUTANTS = (
    Mutant(future_now, "L1", "manifest", "reaches frame 4, after now=3"),
    Mutant(context_straddles_now, "L1", "manifest", "reaches frame 6"),
    Mutant(context_straddles_now, "L2", "manifest", "step 0 must be {2, 4}"),
    Mutant(context_frame_in_the_future_hidden_in_the_middle, "L1", "manifest", "reaches frame 5"),
    Mutant(prefix_too_long, "L2", "manifest", "step 1 must be {6, 8}; found 4 frames"),
    Mutant(support_off_by_one, "L2", "manifest", "from 7 to 9"),
    Mutant(support_past_the_end, "L2", "manifest", "must be masked: 14 is past the last frame 12"),
    Mutant(valid_step_masked, "L2", "manifest", "found masked"),
    Mutant(other_interval, "L2", "manifest", "interval is 3"),
    Mutant(state_of_the_last_frame, "L1", "manifest", "state is that of frame 12"),
    Mutant(state_of_the_last_frame, "L8", "manifest", "state_frame must be 4"),
    Mutant(state_of_an_earlier_frame, "L8", "manifest", "state_frame must be 4"),
    Mutant(actions_past_the_end, "L8", "manifest", "6 actions are marked valid, the episode has 5 frames left"),
    Mutant(actions_from_later, "L8", "manifest", "actions must start at 4"),
    Mutant(context_time_is_not_now, "L1", "manifest", "the context ends at 0.5 s"),
    Mutant(times_do_not_rise, "L8", "manifest", "must rise"),
    Mutant(time_invented_for_a_masked_step, "L8", "manifest", "NaN where it is masked"),
    Mutant(longer_episode_than_planned, "L8", "manifest", "num_frames is 14, the source had 13"),
    Mutant(state_from_the_next_pose, "L8", "manifest", "pose with convert='pose_reached' may depend on later frames"),
    Mutant(state_from_a_gripper_made_absolute, "L8", "manifest", "may depend on later frames"),
    Mutant(state_from_the_action, "L3", "manifest", "command is an action, which is a target"),
    Mutant(duplicate_key, "L7", "manifest", "2 samples of episode ep_a at now=4"),
    Mutant(swapped_keys, "L7", "manifest", "the key must be ep_a-000004"),
    Mutant(missing_manifest_row, "L7", "manifest", "shard train/0 lists 9 samples; the manifest has 8"),
    Mutant(unsorted_manifest, "L7", "manifest", "does not follow row"),
    Mutant(other_source, "L7", "manifest", "source is libero_test"),
    Mutant(wrong_counts, "L7", "manifest", "counts of train"),
)

"""Instructions that are none, that say the same twice, or that are one and the same for a whole set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from pipeline.inspection.flag import Flag

FILLERS = frozenset(
    (
        *(
            "test",
            "testing",
            "todo",
            "tbd",
            "none",
            "null",
            "nan",
            "n/a",
            "na",
            "unknown",
            "undefined",
            "empty",
            "default",
        ),
        *("dummy", "placeholder", "task", "instruction", "language instruction", "no instruction", "teleop"),
        *(
            "demo",
            "untitled",
            "description",
            "task description",
            "your task here",
            "robot task",
            "single task",
            "grasp_single",
        ),
    )
)
"""Texts that tools write where nobody said what to do, in lower case."""

_NUMBERED = re.compile(r"(task|episode|demo|trajectory|traj|instruction|label|class|id)?[\s_#:-]*\d+")
_PATH = re.compile(r"(https?://|[a-z]:\\|/)\S*|\S+\.(mp4|webm|avi|hdf5|h5|json|parquet|npz|bag)")

MIN_EPISODES = 20
"""From so many on, one text for all is worth a note."""


def no_instruction(text: str) -> str:
    """What a text is rather than an instruction; "" where it may be one. Any language and alphabet may be."""
    plain = " ".join(text.lower().split()).strip(" .!?\"'<>[](){}")
    if plain in FILLERS or plain.replace("_", " ") in FILLERS:
        return "a filler"
    if not any(letter.isalpha() for letter in plain):
        return "without a letter"
    if _NUMBERED.fullmatch(plain):
        return "a number"
    if _PATH.fullmatch(plain):
        return "a path"
    if len(plain) > 3 and len(set(plain.replace(" ", ""))) <= 2:
        return "a key held down"
    return ""


def says_twice(text: str) -> bool:
    """Whether a text of at least 3 words is followed by itself, as where two columns were joined."""
    words = re.findall(r"\w+", text.lower())
    half = len(words) // 2
    return half >= 3 and len(words) % 2 == 0 and words[:half] == words[half:]


def check_texts(texts: Mapping[str, str]) -> Iterator[Flag]:
    """Check the instruction of each episode."""
    for episode, text in texts.items():
        if what := no_instruction(text):
            yield Flag("no-instruction", f"{text[:80]!r} is {what}", 1.0, "text", episode, leave_out=True)
        elif says_twice(text):
            yield Flag("repeated-text", f"{text[:120]!r} says the same twice", 1.0, "text", episode)
    counts = Counter(texts.values())
    if len(texts) >= MIN_EPISODES and len(counts) == 1:
        detail = f"all {len(texts)} episodes have the text {next(iter(counts))[:80]!r}: a policy need not read it"
        yield Flag("one-text", detail, 1.0, "text", note=True)

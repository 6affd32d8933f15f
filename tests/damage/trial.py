"""One damaged copy of one real file: what comes of reading its dataset. Runs in a process of its own.

The outcome is "error" (a clear one, that names the file), or "equal" (what was read is what the audit's own reader
reads in the damaged file, from its beginning and without a seek), or "audit" (undecidable, and level source refuses
the episode: behind damage to another episode in the same video, which that reader cannot pass and the pipeline's leaps
over; or inside a damaged image that two decoders patch up differently, the right one all the same). Anything else is
a finding.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.audit.raw.base import RawEpisode, RawError
from pipeline.audit.raw.registry import open_raw
from pipeline.errors import BuildError, EpisodeError, RunError
from pipeline.format.episode import Episode
from pipeline.sources.base import EpisodeRef, SourceIndex
from pipeline.sources.registry import make_source

MEMORY_BYTES = 8 * 2**30
FRAMES = (0, 5, 15)
PATCHED = 8.0
"""Mean difference in grey levels of one damaged image as two decoders show it."""


@dataclass(frozen=True)
class Damage:
    """What is done to a file. place: share of its length, 0..1; bits: flipped bits (0: the file ends there)."""

    place: float
    bits: int
    seed: int

    def apply(self, content: bytes) -> bytes:
        at = int(self.place * len(content))
        if self.bits == 0:
            return content[:at]
        changed = bytearray(content)
        rng = np.random.default_rng(self.seed)
        for offset in rng.integers(0, 64, self.bits):
            changed[min(at + int(offset), len(content) - 1)] ^= 1 << int(rng.integers(8))
        return bytes(changed)


@dataclass(frozen=True)
class Trial:
    """root: the dataset; file: relative to it; settings: of the source, with its type."""

    root: str
    file: str
    settings: Mapping[str, Any]
    damage: Damage


def limit_memory() -> None:
    """A decoder that asks for terabytes must fail in its own process, not take the machine down."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def run(trial: Trial, folder: Path) -> str:
    """Damage a copy below `folder` and read it."""
    root = folder / "data"
    _link(Path(trial.root), root)
    target = root / trial.file
    content = trial.damage.apply(target.read_bytes())
    target.unlink()
    target.write_bytes(content)
    values = dict(trial.settings)
    source = make_source(values.pop("type"), root=str(root), **values)
    try:
        index = source.index()
    except RunError as error:
        return "error" if _names(str(error), trial.file) else f"the error does not name the file: {error}"
    nameless = [entry.detail for entry in index.left_out if not entry.detail]
    if nameless:
        return f"an entry has no detail: {index.left_out}"
    stored = {**{k: v for k, v in asdict(source).items() if k != "root"}, "type": trial.settings["type"]}  # type: ignore[call-overload]
    outcomes = [_read(source, ref, index, stored, root) for ref in _touched(index, trial.file)]
    bad = [outcome for outcome in outcomes if outcome not in ("error", "equal", "audit")]
    return bad[0] if bad else "error" if "error" in outcomes or index.left_out else "equal"


def _read(source: Any, ref: EpisodeRef, index: SourceIndex, stored: Mapping[str, Any], root: Path) -> str:
    try:
        with source.open(ref) as episode:
            if ref.split == "test":
                episode.frames(index.views[0], [0])
                return "equal"
            return _compare(episode, index, open_raw(stored, root).open(ref.id))
    except EpisodeError as error:
        return "error" if any(_names(error.detail, path) for path, _ in ref.files) else f"names no file: {error}"
    except RawError as error:
        if len(ref.data.get("videos", {}).get(index.views[0], ())) > 1:
            return "audit"  # level source refuses the whole file
        return f"only the audit finds what is wrong with {ref.id}: {error}"
    except BuildError as error:
        return f"only the audit finds what is wrong with the metadata: {error}"


def _compare(episode: Episode, index: SourceIndex, raw: RawEpisode) -> str:
    """Frames, text and numbers beside the second reading's."""
    last = episode.num_frames - 1
    wanted = sorted({min(frame, last) for frame in FRAMES})
    if episode.instruction(0) != raw.instruction(0):
        return f"text: {episode.instruction(0)!r} and {raw.instruction(0)!r}"
    for view in index.views:
        ours = episode.frames(view, wanted)
        theirs = [frame for _, (_, frame) in zip(range(wanted[-1] + 2), raw.frames(view), strict=False)]
        for number, frame in zip(wanted, ours, strict=True):
            if not np.array_equal(frame, theirs[number]):
                gaps = [float(np.abs(frame.astype(int) - other).mean()) for other in theirs]
                if int(np.argmin(gaps)) == number and gaps[number] < PATCHED:
                    return "audit"
                return f"frame {number} of {view} differs by {gaps[number]:.3f}, closest is {int(np.argmin(gaps))}"
    state, actions = episode.state(last), episode.actions(0, last + 1)
    if state is not None and raw.state is not None and not np.allclose(state, raw.state[last], atol=1e-5):
        return "state differs"
    if actions is not None and raw.actions is not None and not np.allclose(actions, raw.actions[: last + 1], atol=1e-5):
        return "actions differ"
    return "equal"


def _touched(index: SourceIndex, file: str) -> list[EpisodeRef]:
    """Episodes that are read from the file; for a file of metadata, the first of each split. At most three."""
    own = [ref for ref in index.refs if any(os.path.normpath(path) == file for path, _ in ref.files)]
    firsts = list({ref.split: ref for ref in reversed(index.refs)}.values())
    return (own or firsts)[:3]


def _names(text: str, path: str) -> bool:
    return os.path.basename(path) in text or os.path.dirname(path).split("/")[-1] in text


def _link(original: Path, copy: Path) -> None:
    """The same tree; its files are links."""
    for folder, _, files in os.walk(original):
        there = copy / Path(folder).relative_to(original)
        there.mkdir(parents=True, exist_ok=True)
        for file in files:
            (there / file).symlink_to(Path(folder) / file)

"""MCAP: a folder of recordings of ROS 2, one episode a file.

    ROOT/**/*.mcap      topics of cameras, states and commands, by the names in the settings

Frames are those of the first camera, or of a fixed rate. Frames before every input has a message, and after the last
action, are no part of the episode.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from pipeline.errors import EpisodeError, RunError, SettingsError
from pipeline.format.settings import checked
from pipeline.sources.base import EpisodeRef, LedgerEntry, SourceIndex
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.episode.vectors import channel_names, vector_width
from pipeline.sources.files import FileSizes, check_files, find_files
from pipeline.sources.mcap.container import McapFile, describe_topics, require_package
from pipeline.sources.mcap.episode import open_recording, without_take
from pipeline.sources.mcap.recording import Recording, Wanted
from pipeline.sources.mcap.settings import McapSettings, Times
from pipeline.sources.metadata import count_splits, has_text, own_text, sort_found
from pipeline.sources.naming import short_name
from pipeline.sources.text_list import read_text_list
from pipeline.storage.raw.places import on_disk

TRIED = 8
"""Files that are looked into for the width of the fields, until one can be read."""


@checked
class McapSource(McapSettings):
    """Reader of a folder of MCAP files of ROS 2; every .mcap file below it is one episode."""

    def index(self) -> SourceIndex:
        """List the files; the first that can be read says how wide the fields are. `num_frames` is None.

        A file that `texts` does not list is a LedgerEntry ("no-instruction").

        Raises:
            RunError: no .mcap file below root, none that can be read, or the mcap package is missing.
            SettingsError: the first readable file lacks a topic or field.
        """
        require_package()
        refs, left_out = sort_found(self._list())
        if not refs and not left_out:
            raise RunError(f"{self.root} holds no .mcap file. Set `root` to the folder of the recordings.")
        first = self._first(refs) if refs else None
        found = {name: series.first for name, series in first.fields.items() if series.first} if first else {}
        widths = {name: len(numbers.values) for name, numbers in found.items()}
        names = {name: numbers.names for name, numbers in found.items() if numbers.names}
        where = f"the first file of {self.root}"
        if first and (problem := without_take(first, self)):
            raise SettingsError(f"source.state and source.action: {problem}")
        return SourceIndex(
            name=self.name,
            views=tuple(self.topics),
            state_dim=vector_width(self.state, widths, "state", where) if first else 0,
            action_dim=vector_width(self.action, widths, "action", where) if first else 0,
            fps=self.fps,
            refs=refs,
            left_out=left_out,
            description={"type": "mcap", "episodes": count_splits(refs), "splits_from": self.splits_from},
            state_names=channel_names(self.state, widths, names) if first else (),
            action_names=channel_names(self.action, widths, names) if first else (),
        )

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        """Read a file once and open it. The file stays open until the episode is closed.

        Raises:
            EpisodeError: "missing-file", "changed-file", "undecodable", "bad-record", "bad-clock", "bad-rotation",
                "not-finite", "blank-camera", "no-instruction" or "too-short".
        """
        check_files(self.root, ref)
        path = os.path.join(self.root, ref.files[0][0])
        with ExitStack() as stack:
            try:
                file = self._enter(path, stack)
            except OSError as error:
                raise EpisodeError("missing-file", f"{path}: {error.strerror}") from error
            recording = Recording(file, self._wanted)
            return open_recording(ref, file, recording, self, self.own_text(ref), stack)

    def _list(self) -> Iterator[EpisodeRef | LedgerEntry]:
        """Every file, with its text where `texts` is set."""
        sizes = FileSizes(self.root)
        texts = None if self.texts is None else self._listed_texts(self.texts)
        for path in find_files(self.root, "**/*.mcap"):
            relative = os.path.relpath(path, self.root)
            if not has_text(relative):
                raise RunError(f"{relative!r} below {self.root} is no name in UTF-8: rename the file")
            episode = f"{self.name}-{short_name(relative.removesuffix('.mcap'))}"
            size, split = sizes.size(relative), self.split_of(episode)
            if size is None:  # a folder, or a link that leads nowhere
                yield LedgerEntry(episode, split, "index", "missing-file", f"{path} is no file")
            elif texts is None:
                yield EpisodeRef(episode, split, ((relative, size),), None)
            elif has_text(texts.get(relative)):
                own = {"instruction": texts[relative].strip()}
                yield EpisodeRef(episode, split, ((relative, size),), None, own)
            else:
                detail = f"{self.texts} has no text for {relative}, or several"
                yield LedgerEntry(episode, split, "index", "no-instruction", detail)

    def _listed_texts(self, name: str) -> dict[str, str]:
        """Path of a file -> its text; "" for a file that is listed twice."""
        fix = "Set source.texts to a .csv or .json list below source.root, with the columns file and text."
        found: dict[str, str] = {}
        for row in read_text_list(os.path.join(self.root, name), ("file", "text"), fix):
            if has_text(row.get("file")):
                path, text = os.path.normpath(str(row["file"])), row.get("text")
                found[path] = "" if path in found or not isinstance(text, str) else text
        return found

    def _first(self, refs: Sequence[EpisodeRef]) -> Recording:
        """One message of each topic, of the first file that has them.

        Raises:
            SettingsError: none of the first has; what the first lacks.
        """
        problems: list[str] = []
        for ref in refs[:TRIED]:
            path = os.path.join(self.root, ref.files[0][0])
            try:
                with ExitStack() as stack:
                    found = Recording(self._enter(path, stack), self._wanted, enough=True)
            except (EpisodeError, OSError) as error:
                problems.append(error.detail if isinstance(error, EpisodeError) else f"{path}: {error.strerror}")
                continue
            if not found.missing():
                return found
            there = f"there are {describe_topics(found.topics)}"
            problems.append(f"{path}: no message of {', '.join(found.missing())}; {there}")
        what = "has what source.cameras, state, action and instruction name"
        raise SettingsError(f"none of the first {len(problems)} files of {self.root} {what}: {problems[0]}")

    def _enter(self, path: str, stack: ExitStack) -> McapFile:
        """An open file, closed with the stack."""
        file = McapFile(stack.enter_context(on_disk(path)), path)
        stack.callback(file.close)
        return file

    @property
    def _wanted(self) -> Wanted:
        return Wanted(self.topics, self.fields, self.instruction, self.times is Times.HEADER)

    def own_text(self, ref: EpisodeRef) -> str | None:
        """The text of an episode by the settings or the list; None where the recording has it."""
        if self.instruction is not None:
            return None
        return self.text.strip() if self.text is not None else own_text(ref)

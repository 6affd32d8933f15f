"""A build, opened behind the gate that training has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.common.escaped import escaped_errors
from jobs.common.policy.robot_interface import RobotInterface
from jobs.datasets.contract.build_contract import contract_of_build
from jobs.training.builds.open_builds import AuditedBuild, open_audited
from jobs.training.loop.data import held_out_reader, open_cache
from jobs.training.loop.settings import TrainerSettings
from pipeline.errors import SettingsError
from pipeline.format.build import Build
from pipeline.format.schema import Sizes
from vlajepa.samples import Sample, sample_of

if TYPE_CHECKING:
    from pipeline.streaming.reader import SampleReader
    from vlajepa.batches import Batches


def open_build(
    address: str | Path,
    *,
    audit_level: str = "shards",
    public_key: str | Path | None = None,
    verify: str = "once",
    allow_leaky: bool = False,
    cache_folder: str | Path | None = None,
    cache_gb: float = 200.0,
) -> OpenBuild:
    """Open an audited build, as `vlajepa train` does and with its messages.

    Args:
        address: its folder, or a URL (s3://, gs://, https://), of which the small files are copied here at once and
            shards when they are read.
        audit_level: least depth of its clean verdict: "shards", "source" or "perturb".
        public_key: PEM file of the ed25519 key that must have signed the verdict; None: anybody's is accepted.
        verify: how what is read is compared with what was audited: "every_sample" by SHA-256, "once" the first time,
            then by a quick keyed hash, "off".
        allow_leaky: open a build that is stamped leaky, for a comparison.
        cache_folder: of remote shards and of what was verified; None: vlajepa in $XDG_CACHE_HOME or ~/.cache.
        cache_gb: size of that cache, 10^9 bytes.

    Raises:
        AuditRefusedError: there is no build, or it has no clean verdict of that level, or none that the key signed, or
            it is leaky.
        BuildError: it is malformed or cannot be reached.
        SettingsError: an argument is not one of those.
    """
    try:
        settings = TrainerSettings(
            audit_level=audit_level,  # type: ignore[arg-type]
            public_key=None if public_key is None else Path(public_key),
            verify=verify,  # type: ignore[arg-type]
            cache_folder=None if cache_folder is None else Path(cache_folder),
            cache_gb=cache_gb,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    with escaped_errors():
        return OpenBuild(open_audited(_expanded(address), allow_leaky, settings), settings)


class OpenBuild:
    """An audited build. Made by `open_build`.

    Attributes:
        audited: what the gate let through.
        settings: how its samples are read.
    """

    def __init__(self, audited: AuditedBuild, settings: TrainerSettings) -> None:
        self.audited = audited
        self.settings = settings
        self._readers: dict[str, SampleReader] = {}

    @property
    def build(self) -> Build:
        return self.audited.build

    @property
    def name(self) -> str:
        return self.build.name

    @property
    def views(self) -> tuple[str, ...]:
        """Names of its cameras, in order."""
        return self.build.views

    @property
    def sizes(self) -> Sizes:
        """The sizes of what it holds; `pipeline.format.schema` says which letter is which."""
        return self.build.sizes

    @cached_property
    def samples(self) -> Mapping[str, int]:
        """Samples by split."""
        return {split: int(count["samples"]) for split, count in self.build.manifest["counts"].items()}

    @cached_property
    def contract(self) -> RobotInterface:
        """What a policy takes and gives that is trained on this build alone: for `PolicyClient(…, expects=…)`. Raises
        SettingsError for a build of human video."""
        return contract_of_build(self.build)

    @property
    def verdict(self) -> str:
        """The verdict that let it through, and who signed it."""
        voucher = self.audited.voucher
        read = "" if voucher.compared else "; what is read is not compared with it (verify=off)"
        return f"{voucher.verdict}; signed by {voucher.signed_by}{read}"

    def sample(self, index: int, split: str = "val") -> Sample:
        """One sample, by its place in the split.

        Raises:
            IndexError: the split has no such sample.
            BuildError: there is no such split.
            CorruptError: it is not what was audited.
        """
        reader = self.reader(split)
        if not -len(reader) <= index < len(reader):
            raise IndexError(f"sample {index} of {self.name}: its split {split} has {len(reader):,}")
        index %= len(reader)
        batch = reader.read(np.array([index], np.int64))
        return sample_of(batch, self.views, self.name, split, reader.episode(index))

    def batches(self, split: str = "train", batch_size: int = 32, seed: int = 0, epochs: int = 1) -> Batches:
        """A `torch.utils.data` dataset of whole batches; see `Batches`."""
        from vlajepa.batches import Batches  # loads torch

        return Batches(self.audited, self.settings, split, batch_size, seed, epochs)

    def reader(self, split: str) -> SampleReader:
        """The reader of a split, which a held-out loss would use: it verifies what it reads."""
        if split not in self._readers:
            cache = open_cache([self.build], self.settings)
            self._readers[split] = held_out_reader(self.build, self.settings, cache, split)
        return self._readers[split]

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens readers of its own."""
        return {**self.__dict__, "_readers": {}}

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {split}" for split, count in self.samples.items())
        return f"<build {self.name}: {counts} samples; {self.verdict}>"

    def _repr_html_(self) -> str:
        rows = {
            "build": self.name,
            "samples": ", ".join(f"{split} {count:,}" for split, count in self.samples.items()),
            "views": ", ".join(self.views),
            "verdict": self.verdict,
        }
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
        return f"<table>{cells}</table>"


def _expanded(address: str | Path) -> str:
    text = str(address)
    return str(Path(text).expanduser()) if text.startswith("~") else text

"""Who vouches for the data that a checkpoint was trained on: kept in its state.json, shown where it acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model.checkpoint.folders import newest_checkpoint
from model.checkpoint.state_file import read_state
from pipeline.errors import BuildError
from pipeline.format.json.typed_json import from_json
from pipeline.format.text.printable import printable

VOUCHED = "vouched"
UNSIGNED = "unsigned"
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Voucher:
    """A build that a checkpoint was trained on, or a file that its weights came from.

    build      name of the build; path of a file that says nothing about its data
    verdict    what let the build through the gate, or "leaky", or "unknown"
    signed_by  id of the key that signed the verdict, or "unsigned"
    checked    whether the signature was verified with a public key; otherwise the id is a claim
    compared   whether every sample was compared with what the verdict is about, in all parts of the run
    """

    build: str
    verdict: str
    signed_by: str
    checked: bool
    compared: bool

    @property
    def text(self) -> str:
        """One line, as whoever made the checkpoint wrote it."""
        claim = "" if self.checked else " (a claim: trainer.public_key= checks it)"
        signed = UNSIGNED if self.signed_by == UNSIGNED else f"signed by {self.signed_by}{claim}"
        known = self.compared or self.verdict == _UNKNOWN
        loose = "" if known else "; SAMPLES WERE NOT COMPARED with what was audited (trainer.verify=off)"
        return printable(f"{self.build}: {self.verdict}, {signed}{loose}")

    def after(self, earlier: Voucher) -> Voucher:
        """For a run that goes on: what its earlier part did not compare stays so."""
        return replace(self, compared=self.compared and earlier.compared)


def vouched(state: Mapping[str, Any]) -> tuple[Voucher, ...]:
    """Of a checkpoint's state: first the run's own builds, then those of the weights it started from.

    Raises:
        BuildError: the entries are not as this version writes them.
    """
    if "imported_from" in state:
        return (_nothing(str(state["imported_from"])),)
    entries = state.get(VOUCHED)
    try:
        if not isinstance(entries, list) or not entries:
            raise ValueError(f"it must be a list of at least one build, found {entries!r:.80}")
        return tuple(from_json(Voucher, entry, f"entry {number}") for number, entry in enumerate(entries))
    except ValueError as error:
        raise BuildError(f"state.json: {VOUCHED} is not as this version writes it: {error}") from error


def vouched_of(source: Path) -> tuple[Voucher, ...]:
    """Of what a run starts from (see `model.exchange.initial`): only checkpoints of this system say something."""
    checkpoint = newest_checkpoint(source)
    return (_nothing(str(source)),) if checkpoint is None else vouched(read_state(checkpoint))


def as_json(vouchers: Sequence[Voucher]) -> list[dict[str, Any]]:
    """For state.json."""
    return [asdict(voucher) for voucher in vouchers]


def _nothing(source: str) -> Voucher:
    return Voucher(source, _UNKNOWN, UNSIGNED, False, False)

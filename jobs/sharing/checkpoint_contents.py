"""A checkpoint as it is pushed: its files, and a card with its run's held-out numbers."""

from __future__ import annotations

from pathlib import Path

from jobs.sharing.cards.held_out_results import results_section
from jobs.sharing.cards.model_card import FOLDER, model_card
from jobs.sharing.contents import CARD, Contents, SentFile, small_file
from jobs.sharing.settings import PushConfig
from model.checkpoint.folders import find_checkpoint
from model.checkpoint.state_file import STATE, listed_files, read_state
from model.checkpoint.vouched import Voucher, vouched
from pipeline.errors import AuditRefusedError, SettingsError

_CLEAN = "clean at level "
"""Beginning of a verdict that let a build into training."""


def checkpoint_contents(settings: PushConfig, address: str) -> Contents:
    """What is pushed of a checkpoint: all of it, so that a training can go on from there.

    Raises:
        BuildError: it is neither a checkpoint nor a run with one.
        CorruptError: its state.json was changed.
        AuditRefusedError: a build it was trained on had no clean verdict, and `unaudited` is not set.
        SettingsError: `public_key` is given, which is for builds.
    """
    if settings.public_key is not None:
        raise SettingsError("public_key is for builds: a checkpoint says itself who signed; leave it out")
    checkpoint = find_checkpoint(settings.what)
    state, data = read_state(checkpoint), (checkpoint / STATE).read_bytes()
    vouchers = vouched(state)
    if not settings.unaudited:
        _require_clean(checkpoint, vouchers)
    run = settings.results or _run_of(checkpoint)
    results = [] if run is None else results_section(run)
    whole = small_file(f"{FOLDER}/{STATE}", data)
    card = model_card(state, whole.sha256, vouchers, results, address, settings.licence)
    return Contents(
        kind="model",
        what=checkpoint,
        title=f"Checkpoint {checkpoint.name}",
        large=tuple(
            SentFile(f"{FOLDER}/{name}", (checkpoint / name).stat().st_size, digest, checkpoint / name)
            for name, digest in listed_files(checkpoint).items()
        ),
        last=(small_file(CARD, card.encode()), whole),
    )


def _require_clean(checkpoint: Path, vouchers: tuple[Voucher, ...]) -> None:
    for voucher in vouchers:
        if not voucher.verdict.startswith(_CLEAN):
            raise AuditRefusedError(
                f"{checkpoint} was trained on data without a clean verdict ({voucher.text}); unaudited=true pushes it "
                "as it is, and its card says so"
            )


def _run_of(checkpoint: Path) -> Path | None:
    """The run's folder that a checkpoint lies in, which may have been moved away from there."""
    run = checkpoint.resolve().parent.parent
    return run if (run / "run.json").is_file() and (run / "metrics.jsonl").is_file() else None

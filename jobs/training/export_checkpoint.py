"""`vlajepa export`: a checkpoint of this system -> LeRobot's policy folder, or the reference's `.pt`."""

from __future__ import annotations

from pathlib import Path

from jobs.training.settings import CheckpointFormat, ExportConfig
from model.checkpoint.folders import find_checkpoint
from model.checkpoint.state_file import read_state
from pipeline.errors import SettingsError


def run(settings: ExportConfig) -> Path:
    """The folder or file that was written."""
    if settings.out.exists():
        raise SettingsError(f"{settings.out} exists; choose another out=")
    checkpoint = find_checkpoint(settings.checkpoint)
    from jobs.common.policy.load_model import load_model  # PyTorch, which no refusal needs
    from model.checkpoint.averages import acting_weights
    from model.exchange.lerobot import save_lerobot
    from model.exchange.starvla import save_starvla

    weights = acting_weights(checkpoint, read_state(checkpoint))
    model = load_model(checkpoint)
    if settings.format == CheckpointFormat.STARVLA:
        save_starvla(model, settings.out)  # a flat mapping of tensors, which has no place for more
        notes = ["the format has no ranges of actions and state; they stay in the checkpoint"]
    else:
        notes = save_lerobot(model, settings.out, settings.cameras, settings.encoder_path, weights)
    notes.insert(0, f"weights: {weights}")
    print("\n".join(f"note: {note}" for note in notes))
    print(f"wrote {settings.out}")
    return settings.out

"""Tensor names of the two other formats, and what of them this model does not use.

starvla  the reference's `.pt` (names of the released full-size checkpoint)
lerobot  `model.safetensors` of LeRobot's `vla_jepa` policy
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EMBEDDING = "student.model.language_model.embed_tokens.weight"

OWN_PREFIXES: Mapping[str, Mapping[str, str]] = {
    "starvla": {
        "student.model.": "qwen_vl_interface.model.model.",
        "predictor.": "vj_predictor.",
        "action_head.": "action_model.",
    },
    "lerobot": {
        "student.model.": "model.qwen.model.model.",
        "predictor.": "model.video_predictor.",
        "action_head.": "model.action_model.",
    },
}
"""Our prefix -> theirs; what follows is the same name in all three."""

LM_HEAD: Mapping[str, str] = {
    "starvla": "qwen_vl_interface.model.lm_head.weight",
    "lerobot": "model.qwen.model.lm_head.weight",
}
"""The head over the vocabulary, tied to the embeddings."""

UNUSED: Mapping[str, Mapping[str, str]] = {
    "starvla": {
        "vj_encoder.": "the frozen target encoder: its work is in the shards",
        "vj_predictor.state_encoder.": "never called by the reference",
        "vj_predictor.extrinsics_encoder.": "never called by the reference",
    },
    "lerobot": {
        "model.video_encoder.": "the frozen target encoder: its work is in the shards",
        "model.video_predictor.state_encoder.": "never called by the reference",
        "model.video_predictor.extrinsics_encoder.": "never called by the reference",
    },
}
"""Prefix of what is left out -> why."""

SCALERS = ("action_scaler.", "state_scaler.")
"""Of our checkpoints alone: the ranges actions and state are scaled by."""

NEW_EMBODIMENT = ("action_encoder", "action_decoder", "state_encoder")
"""Parts of the action head whose shapes depend on the robot."""


@dataclass(frozen=True)
class Account:
    """Where every tensor of a foreign checkpoint went.

    loaded         our names
    unused         their names, with the reason
    reinitialised  our names that keep their fresh values because the caller listed their part
    notes          what else of the checkpoint was not taken over
    """

    loaded: tuple[str, ...]
    unused: Mapping[str, str]
    reinitialised: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """A few lines for people."""
        lines = [f"loaded {len(self.loaded)} tensors"]
        for reason in sorted(set(self.unused.values())):
            names = [name for name, why in self.unused.items() if why == reason]
            lines.append(f"left out {len(names)}: {reason} ({names[0]}{', …' if len(names) > 1 else ''})")
        if self.reinitialised:
            lines.append(f"fresh weights for {len(self.reinitialised)}: {', '.join(self.reinitialised)}")
        return "\n".join([*lines, *self.notes])


def own_name(foreign: str, style: str) -> str | None:
    """Our name of a foreign tensor; None if this model has no such part."""
    if any(foreign.startswith(prefix) for prefix in UNUSED[style]):
        return None
    for own, theirs in OWN_PREFIXES[style].items():
        if foreign.startswith(theirs):
            return own + foreign.removeprefix(theirs)
    return None


def foreign_name(own: str, style: str) -> str | None:
    """Their name of one of our tensors; None for the scalers, which other formats store separately."""
    for prefix, theirs in OWN_PREFIXES[style].items():
        if own.startswith(prefix):
            return theirs + own.removeprefix(prefix)
    return None


def unused_reason(foreign: str, style: str) -> str | None:
    """Why a foreign tensor is left out; None if it is not."""
    return next((reason for prefix, reason in UNUSED[style].items() if foreign.startswith(prefix)), None)

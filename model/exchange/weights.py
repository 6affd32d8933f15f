"""Weights of another format into our model and back; every tensor is accounted for, or the whole is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from model.exchange.names import (
    EMBEDDING,
    LM_HEAD,
    NEW_EMBODIMENT,
    SCALERS,
    Account,
    foreign_name,
    own_name,
    unused_reason,
)
from model.settings import HeadInput, ModelSettings, SteeredBy
from pipeline.errors import SettingsError

SHOWN = 100
"""Tensors that do not fit, of those an error lists."""


def load_foreign(
    model: nn.Module, tensors: Mapping[str, Tensor], style: str, source: str, reinitialise: Sequence[str] = ()
) -> Account:
    """Load a foreign checkpoint in place; its values are cast to the model's dtypes.

    Args:
        model: a `VLAJEPA`. Its scalers keep their ranges, which belong to the data.
        tensors: by foreign names.
        style: "starvla" or "lerobot".
        source: where they come from, for messages.
        reinitialise: parts of the action head that keep their fresh weights, of `NEW_EMBODIMENT`.

    Raises:
        SettingsError: a tensor is missing, unknown, of another shape or not finite; up to `SHOWN` are listed, and
            nothing is loaded.
    """
    check_parts(reinitialise)
    found, unused, problems = _translated(tensors, style)
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(SCALERS)}
    fresh = tuple(name for name in own if _part(name) in reinitialise)
    for name in fresh:
        found.pop(name, None)
    problems += [f"missing {foreign_name(name, style)} (our {name})" for name in own.keys() - found.keys() - set(fresh)]
    problems += [f"unknown {foreign_name(name, style)}" for name in found.keys() - own.keys()]
    problems += [
        f"{foreign_name(name, style)} is {found[name].dtype}, weights are floating point"
        for name in found
        if not found[name].is_floating_point()
    ]
    problems += [
        f"{foreign_name(name, style)}: {tuple(found[name].shape)} in the file, {tuple(own[name].shape)} in the model"
        for name in found.keys() & own.keys()
        if found[name].shape != own[name].shape
    ]
    if not problems:
        problems = [
            f"{foreign_name(name, style)} holds values that are not finite in {own[name].dtype}"
            for name, tensor in found.items()
            if not bool(torch.isfinite(tensor.to(own[name].dtype)).all())
        ]
    if problems:
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise SettingsError(
            f"{source} does not fit the model; for a robot with other actions or state list the parts to start afresh "
            f"in reinitialise=[{','.join(NEW_EMBODIMENT)}]:\n  " + "\n  ".join(sorted(problems)[:SHOWN]) + more
        )
    with torch.no_grad():
        for name, tensor in found.items():
            own[name].copy_(tensor)
    return Account(tuple(sorted(found)), unused, fresh)


def other_wiring(settings: ModelSettings) -> list[str]:
    """Settings by which parts of the model are joined otherwise than in the foreign formats."""
    found = []
    if settings.action_head.reads != HeadInput.EMBODIED:
        found.append(f"its action head reads the embodied tokens, action_head.reads={settings.action_head.reads}")
    if settings.predictor.steered_by != SteeredBy.LATENT_ACTIONS:
        found.append(f"latent actions steer its predictor, predictor.steered_by={settings.predictor.steered_by}")
    return found


def foreign_weights(model: nn.Module, style: str) -> dict[str, Tensor]:
    """Our weights by foreign names, contiguous on the CPU.

    The head over the vocabulary is tied to the embeddings: a second name of the same memory in "starvla", left out in
    "lerobot", since safetensors holds tied weights once.
    """
    result = {}
    for name, tensor in model.state_dict().items():
        foreign = foreign_name(name, style)
        if foreign is not None:
            result[foreign] = tensor.detach().cpu().contiguous()
    if style == "starvla":
        embedding = foreign_name(EMBEDDING, style)
        assert embedding is not None
        result[LM_HEAD[style]] = result[embedding]
    return result


def _translated(tensors: Mapping[str, Tensor], style: str) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """By our names; what is unused, with the reason; what is wrong."""
    found: dict[str, Tensor] = {}
    unused: dict[str, str] = {}
    problems: list[str] = []
    for foreign, tensor in tensors.items():
        name, reason = own_name(foreign, style), unused_reason(foreign, style)
        if name is not None:
            found[name] = tensor
        elif reason is not None:
            unused[foreign] = reason
        elif foreign != LM_HEAD[style]:
            problems.append(f"unknown {foreign}")
    head = tensors.get(LM_HEAD[style])
    if head is not None and EMBEDDING not in found:
        found[EMBEDDING] = head  # safetensors keeps one name of tied weights
    elif head is not None and torch.equal(head, found[EMBEDDING]):
        unused[LM_HEAD[style]] = "the same as the embeddings it is tied to; no text is generated"
    elif head is not None:
        unused[LM_HEAD[style]] = "no text is generated (it differs from the embeddings)"
    return found, unused, problems


def _part(name: str) -> str:
    """`action_encoder` of `action_head.action_encoder.layer1.weight`; empty outside the action head."""
    return name.split(".")[1] if name.startswith("action_head.") else ""


def check_parts(reinitialise: Sequence[str]) -> None:
    """Raise SettingsError if a name is not of `NEW_EMBODIMENT`."""
    unknown = sorted(set(reinitialise) - set(NEW_EMBODIMENT))
    if unknown:
        raise SettingsError(f"reinitialise takes {', '.join(NEW_EMBODIMENT)}, got {', '.join(unknown)}")

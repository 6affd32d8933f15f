"""The card of a checkpoint: what its state.json says, who vouches for its data, and its run's held-out numbers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.report.run_files import inner, number
from jobs.sharing.cards.markdown import code, front_matter
from model.checkpoint.vouched import Voucher

FOLDER = "checkpoint"
"""Where the checkpoint lies beside its card."""


def model_card(
    state: Mapping[str, Any],
    sha256: str,
    vouchers: Sequence[Voucher],
    results: Sequence[str],
    address: str,
    licence: str | None,
) -> str:
    """README.md of a checkpoint.

    Args:
        state: of its state.json.
        sha256: of its state.json, which lists that of every other file.
        vouchers: who vouches for the data it was trained on.
        results: lines about held-out numbers, in Markdown.
        address: of the place, for the lines to type.
        licence: for the header; None: other.
    """
    step = number(state.get("step"))
    header = {
        "license": licence or "other",
        "pipeline_tag": "robotics",
        "tags": ["vla-jepa", "v-jepa2", "robotics"],
    }
    builds = inner(state, "builds")
    parts = [
        front_matter(header),
        "# VLA-JEPA checkpoint" + (f", step {step:,.0f}" if step is not None else ""),
        "",
        "A vision-language-action model in the manner of VLA-JEPA: a student that sees the current frame and an "
        "instruction, a predictor of the future latents of a frozen V-JEPA2 encoder, and an action head.",
        "",
        "## Trained on",
        *(f"- {code(voucher.text)}" for voucher in vouchers),
        "",
        *(f"- fingerprint of {code(name)}: {code(fingerprint)}" for name, fingerprint in builds.items()),
        "",
        "## Model",
        *(f"- {code(name)}: {code(value)}" for name, value in _settings(inner(state, "model"))),
        "",
        *results,
        *_reading(address),
        "## Identity",
        f"- SHA-256 of `state.json`, which lists that of every other file: `{sha256}`",
        "",
    ]
    return "\n".join(parts)


def _settings(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Settings by their names with dots."""
    found: list[tuple[str, object]] = []
    for name, value in values.items():
        found += _settings(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found


def _reading(address: str) -> list[str]:
    name = address.removeprefix("hf://")
    folder = f"{name.rstrip('/').split('/')[-1]}"
    fetch = f"hf download {name} --local-dir {folder}"
    if name == address:
        copy = "aws s3 cp --recursive" if address.startswith("s3") else "gcloud storage cp -r"
        fetch = f"{copy} {shlex.quote(address)} {shlex.quote(folder)}"
    return [
        "## Using it",
        f"The checkpoint is the folder `{FOLDER}`.",
        "```",
        fetch,
        shlex.join(["vlajepa", "serve", f"policy={folder}/{FOLDER}", "port=8000"]),
        "```",
        "",
    ]

"""Low-rank adapters of the backbone (LoRA, arXiv 2106.09685) by peft: they are trained, the backbone is not.

A linear layer of weight W [out, in] computes with W + alpha / rank x B A, where A [rank, in] is random and B
[out, rank] starts at 0. The tokens that the prompt adds to the vocabulary are trained with them, a row each: no
pretraining has seen them.

With adapters the layers' own tensors have other names (`q_proj.base_layer.weight` beside `q_proj.lora_A…`), which only
a run and its checkpoints see: whatever else loads a checkpoint merges them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from model.settings import LoraSettings
from pipeline.errors import SettingsError

_NAME = "default"
"""Of the one adapter of each layer, part of its tensors' names."""

_EMBEDDING = "embed_tokens"


def require_peft(lora: LoraSettings) -> None:
    """Raise SettingsError where adapters are asked for and peft is not installed."""
    if lora.rank and find_spec("peft") is None:
        raise SettingsError(
            f"model.backbone.lora.rank={lora.rank} needs the package peft: pip install 'vlajepa[lora]' (or rank 0)"
        )


def add_adapters(backbone: nn.Module, lora: LoraSettings, tokens: Sequence[int], seed: int) -> Any:
    """Add adapters in place; from here on they and the tokens' embeddings alone are trained.

    Args:
        backbone: a Qwen3-VL.
        tokens: ids of the tokens whose embeddings are trained.
        seed: of their random weights. The caller's random state stays as it was.

    Returns:
        peft's tuner of the backbone.

    Raises:
        SettingsError: peft is not installed.
        ValueError: a target names no linear layer.
    """
    require_peft(lora)
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=_layers(backbone, lora.targets),
        trainable_token_indices={_EMBEDDING: list(tokens)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LoraModel(backbone, config, _NAME)


@contextmanager
def merged_adapters(backbone: nn.Module, lora: LoraSettings, tokens: Sequence[int]) -> Iterator[None]:
    """While open, a backbone has adapters, to be loaded; afterwards their products are part of its own weights, under
    their own names. Nothing is done for rank 0. Raises: see `add_adapters`."""
    if not lora.rank:
        yield
        return
    trained = {name: parameter.requires_grad for name, parameter in backbone.named_parameters()}
    tuner = add_adapters(backbone, lora, tokens, seed=0)
    yield
    tuner.merge_and_unload(progressbar=False)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(trained[name])


def _layers(backbone: nn.Module, targets: Sequence[str]) -> list[str]:
    """Full names of the linear layers whose names end in one of `targets`."""
    linear = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    found: list[str] = []
    for target in targets:
        chosen = [name for name in linear if f".{name}".endswith(f".{target}")]
        if not chosen:
            endings = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise ValueError(
                f"model.backbone.lora.targets: no linear layer ends in {target!r}; they end in {', '.join(endings)}"
            )
        found += chosen
    return found

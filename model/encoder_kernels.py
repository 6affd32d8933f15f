"""What `pipeline.encoder` is lent on CUDA: attention over clips of several lengths, and graphs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from model.attention.transformers_attention import use_attention
from model.recording import Recorded


def encoder_kernels(
    attention: str, device: str
) -> tuple[Callable[[Any], None] | None, Callable[[Callable[..., Tensor]], Callable[..., Tensor]] | None]:
    """`attend` and `record` of `Encoder`. On the CPU it computes as transformers does, unless xFormers is asked for."""
    on_cuda = device.startswith("cuda")
    attend = partial(use_attention, backend=attention) if on_cuda or attention != "sdpa" else None
    return attend, Recorded if on_cuda else None

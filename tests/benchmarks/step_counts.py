"""What a full-size step asks of a device, counted on tensors without memory: operators, casts, bytes moved.

Forward and backward pass of the trainer's own model with rounded weights, by PyTorch's operators as they come, not
compiled. A kernel is launched for about each operator that is no view; which one, a device decides.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.estimate import KINDS, MasksAsRows, fake_model, total_loss
from tests.benchmarks.cuda_step import TINY as TINY_STEP
from tests.benchmarks.cuda_step import Scale as StepScale
from tests.benchmarks.cuda_step import make_batches
from tests.benchmarks.report import Series, print_table

TERA = 1e12
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")
SHOWN = 8
"""Operators that are listed: those called most, and those that move most."""


@dataclass(frozen=True)
class Scale:
    """The step, whose device is never asked for, and samples of each kind."""

    step: StepScale = field(default_factory=lambda: StepScale(device="cpu"))
    batch: int = 16


TINY = Scale(TINY_STEP, batch=1)


class OperatorCounts(TorchDispatchMode):
    """Counts operators while it is on, by name without overload.

    Attributes:
        calls: of operators that are no views;  views: how many those are.
        casts: copies into another dtype.
        bytes: read and written by each operator, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.bytes = Counter[str](), Counter[str]()
        self.views = self.casts = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.name().split("::")[-1].split(".")[0]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if func.namespace == "prim":  # questions, such as a tensor's device
            return out
        if func.is_view or name in ("detach", "_unsafe_view", "lift_fresh"):
            self.views += 1
            return out
        self.calls[name] += 1
        self.bytes[name] += sum(leaf.numel() * leaf.element_size() for leaf in (*given, *made))
        self.casts += name == "_to_copy" and given[0].dtype != made[0].dtype
        return out


def run(_: Path, repeats: int, scale: Scale) -> None:
    """Print the tables. Nothing is timed, so it is done once."""
    step = scale.step
    fake, model = fake_model(step.model, step.sizes, bf16=True)
    with fake:
        batches = make_batches(step, scale.batch, 0)
    with OperatorCounts() as forward, MasksAsRows():
        loss = total_loss(model, batches, bf16=True)
    with OperatorCounts() as backward, MasksAsRows():
        loss.backward()
    calls, moved = forward.calls + backward.calls, forward.bytes + backward.bytes
    products = {name for name in calls if name in PRODUCTS or "attention" in name}
    rest = sum(count for name, count in moved.items() if name not in products) / TERA
    counts = {
        "operators, forward": forward.calls.total(),
        "operators, backward": backward.calls.total(),
        "of both, products of matrices and attention": sum(calls[name] for name in products),
        "of both, casts": forward.casts + backward.casts,
        "views, which launch nothing": forward.views + backward.views,
    }
    title = f"A step of {scale.batch} samples of each of {', '.join(KINDS)}, not compiled, PyTorch {torch.__version__}"
    print_table(title, "calls", [Series(name, (float(count),)) for name, count in counts.items()])
    traffic = {"products of matrices and attention": moved.total() / TERA - rest, "everything else": rest}
    print_table("Bytes read and written", "TB", [Series(name, (value,)) for name, value in traffic.items()])
    most = [Series(name, (float(count),)) for name, count in calls.most_common(SHOWN)]
    print_table("Operators called most", "calls", most)
    others = Counter({name: count for name, count in moved.items() if name not in products})
    print_table(
        "Operators that move most, but for products and attention",
        "TB",
        [Series(f"{name} ({calls[name]:,} calls)", (count / TERA,)) for name, count in others.most_common(SHOWN)],
    )

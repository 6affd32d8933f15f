"""What a training step costs, without running it: the model and its step on tensors that have no memory.

The step is the real one, `VLAJEPA.losses` and its backward pass, on PyTorch's fake tensors; operations are counted by
PyTorch's FLOP counter, and memory by following every allocation to its end.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from model.meta_model import meta_model
from model.settings import AttentionBackend, ModelSettings
from model.vla_jepa import VLAJEPA, TrainingBatch
from pipeline.format.schema import Observation, Sizes, Targets

KINDS = ("robot", "video")
PARTS = ("student", "predictor", "action_head")
FLOAT32, BFLOAT16 = 4, 2
"""Bytes of a number."""

MOMENTS = 2
"""AdamW keeps two numbers a trained weight, in the weight's dtype."""

_INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)


@dataclass(frozen=True)
class StepEstimate:
    """Costs of one optimiser step on one device. FLOPs are 2 a multiply-add, matrix products and attention alone.

    parameters     by part of the model
    trainable      parameters that are trained
    prompt_tokens  by kind of batch, tokens of one prompt with its images
    forward        FLOPs by part
    backward       FLOPs, with what gradient checkpointing computes again
    weights        bytes held all the time; in bfloat16, of float32 weights and their rounded copies
    moments        bytes held all the time
    averages       bytes held all the time, of float32 averages of the trained weights
    gradients      bytes, of the float32 weights
    kept           bytes of activations that the backward pass begins with
    passes         bytes of activations and gradients at the highest point of forward and backward pass; in bfloat16,
                   of the gradients of both the rounded and the float32 weights
    optimiser      bytes of gradients: AdamW's fused form (CUDA) holds nothing beside them
    """

    parameters: Mapping[str, int]
    trainable: int
    prompt_tokens: Mapping[str, int]
    forward: Mapping[str, int]
    backward: int
    weights: int
    moments: int
    averages: int
    gradients: int
    kept: int
    passes: int
    optimiser: int

    @property
    def flops(self) -> int:
        """FLOPs of the step."""
        return sum(self.forward.values()) + self.backward

    @property
    def peak(self) -> int:
        """Highest number of bytes in use. An allocator's fragmentation and a library's work space come on top."""
        return self.weights + self.moments + self.averages + max(self.passes, self.optimiser)


def estimate_step(
    settings: ModelSettings,
    sizes: Sizes,
    batch_size: int,
    kinds: Sequence[str] = ("robot",),
    bf16: bool = True,
    instruction: str = "pick up the bottle and put it on the plate",
    count_flops: bool = True,
    averaged: bool = False,
) -> StepEstimate:
    """Estimate a step of the trainer.

    Args:
        settings: of the model; a backbone of kind "pretrained" needs its configuration and tokenizer, not its weights.
        sizes: of the builds.
        batch_size: samples of each build.
        kinds: one of "robot" and "video" for every build; all pass through the model together.
        bf16: with rounded weights and under autocast, as on CUDA.
        instruction: of every sample.
        count_flops: False: memory alone, in a third of the time; FLOPs are then 0.
        averaged: the trainer keeps moving averages of the trained weights.

    Raises:
        SettingsError: sizes and settings do not fit.
        ValueError: a kind has another name.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"kinds must be of {', '.join(KINDS)}, got {kind!r}")
    fake, model = fake_model(settings, sizes, bf16)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in model.parameters())
    gradients = FLOAT32 * trained
    with fake:
        batches = {kind: _batch(sizes, settings.predictor.views, batch_size, kind, instruction) for kind in kinds}
    together = [batches[kind] for kind in kinds]
    with LiveMemory(model.parameters()) as memory, MasksAsRows():
        loss = total_loss(model, together, bf16)
        kept = memory.current
        loss.backward()
    forward, backward = _count_flops(model, together, bf16) if count_flops else ({}, 0)
    return StepEstimate(
        parameters={part: _count(getattr(model, part)) for part in PARTS},
        trainable=trained,
        prompt_tokens={kind: _prompt_tokens(model, observation) for kind, (observation, _) in batches.items()},
        forward=forward,
        backward=backward,
        weights=(FLOAT32 + (BFLOAT16 if bf16 else 0)) * everything,
        moments=MOMENTS * gradients,
        averages=gradients if averaged else 0,
        gradients=gradients,
        kept=kept,
        passes=memory.peak + (gradients if bf16 else 0),
        optimiser=gradients,
    )


def fake_model(settings: ModelSettings, sizes: Sizes, bf16: bool) -> tuple[FakeTensorMode, VLAJEPA]:
    """A model in training mode whose parameters have no memory, as the trainer has it, and the mode they belong to."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    # No kernel runs; PyTorch's fused attention keeps what xFormers' keeps.
    model = meta_model(replace(settings, attention=AttentionBackend.SDPA), sizes)
    return fake, _without_memory(model, fake, bf16).train()


def _count_flops(model: VLAJEPA, batches: Sequence[TrainingBatch], bf16: bool) -> tuple[dict[str, int], int]:
    """FLOPs of the forward pass by part of the model, and of the backward pass."""
    # Apart from the memory, since the counter keeps tensors alive that gradient checkpointing would free.
    called = {"student": 0, "predictor": 0}
    with FlopCounterMode(display=False) as flops, MasksAsRows():
        with _calls_counted(model, flops, called):
            loss = total_loss(model, batches, bf16)
        after = flops.get_total_flops()
        loss.backward()
    return {**called, "action_head": after - sum(called.values())}, flops.get_total_flops() - after


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is on, until they are freed.

    Args:
        known: tensors made before, whose memory is not counted.

    Attributes:
        peak: highest number of bytes at a time.
    """

    def __init__(self, known: Any = ()) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._alive = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return out

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.current += size
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.current -= size


class MasksAsRows(TorchDispatchMode):
    """Indexing by a mask becomes indexing by row numbers: how many rows it selects could not be known later on, when it
    meets a tensor without memory."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _INDEXING:
            indices: list[Tensor | None] = []
            for index in args[1]:
                mask = index is not None and index.dtype == torch.bool
                indices += index.nonzero().unbind(1) if mask else [index]
            args = (args[0], indices, *args[2:])
        return func(*args, **(kwargs or {}))


def total_loss(model: VLAJEPA, batches: Sequence[TrainingBatch], bf16: bool) -> Tensor:
    """Of all batches, which pass through the model together."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return torch.stack([losses.total for losses in model(*batches)]).sum()


def _without_memory(model: VLAJEPA, fake: FakeTensorMode, bf16: bool) -> VLAJEPA:
    """A model on the meta device, with its parameters as fake CPU tensors and its buffers as zeros."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            with fake:
                empty = torch.empty(parameter.shape, dtype=torch.bfloat16 if bf16 else parameter.dtype)
            setattr(module, name, nn.Parameter(empty, parameter.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.zeros(buffer.shape, dtype=buffer.dtype))
    return model


@contextmanager
def _calls_counted(model: VLAJEPA, flops: FlopCounterMode, called: dict[str, int]) -> Iterator[None]:
    """Adds the FLOPs of each call of the parts named in `called` while the context is open."""
    started: dict[str, int] = {}
    handles = []
    for name in called:
        module: nn.Module = getattr(model, name)

        def begin(*_: Any, name: str = name) -> None:
            started[name] = flops.get_total_flops()

        def end(*_: Any, name: str = name) -> None:
            called[name] += flops.get_total_flops() - started[name]

        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _batch(
    sizes: Sizes, views: int, count: int, kind: str, instruction: str
) -> tuple[Observation[Tensor], Targets[Tensor]]:
    """A batch of zeros, as the loader gives it."""
    robot = kind == "robot"
    seen = sizes.views if robot else 1
    latent = (views, sizes.tokens, sizes.width)
    observation = Observation(
        images=torch.zeros(count, seen, sizes.image_size, sizes.image_size, 3, dtype=torch.uint8),
        instruction=(instruction,) * count,
        state=torch.zeros(count, sizes.state) if robot else None,
    )
    targets = Targets(
        context=torch.zeros(count, *latent, dtype=torch.float16),
        latents=torch.zeros(count, sizes.steps, *latent, dtype=torch.float16),
        latent_mask=torch.ones(count, sizes.steps, dtype=torch.bool),
        actions=torch.zeros(count, sizes.chunk, sizes.action) if robot else None,
        action_mask=torch.ones(count, sizes.chunk, dtype=torch.bool) if robot else None,
    )
    return observation, targets


def _prompt_tokens(model: VLAJEPA, observation: Observation[Tensor]) -> int:
    tokens = model.student.prompts.tokens
    return len(tokens(observation.instruction[0], observation.images.shape[1], observation.state is not None))


def _count(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())

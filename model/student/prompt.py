"""Instruction -> tokens of the student's prompt, and the rows of the action tokens.

Qwen's chat form with one user message: the images, then the text.

Shapes: B prompts of a batch, T tokens of all prompts, I image tokens of all prompts.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from model.attention.packed import Packed
from model.settings import PromptSettings
from model.student.tokenizer import CHAT_MARKERS, EMBODIED_TOKEN, action_token

ROBOT_PROMPT = (
    "Your task is {instruction}. Infer the temporal dynamics from frames ",
    " and produce the corresponding policy actions ",
    ".",
)
"""Pieces around the action tokens and the embodied tokens."""

VIDEO_PROMPT = ("Your task is {instruction}. Infer the temporal dynamics of future frames ", ".")
"""Pieces around the action tokens."""


@dataclass(frozen=True)
class PromptRequest:
    """Prompts to build for one batch; `robot` asks for policy actions as well."""

    instructions: Sequence[str]
    views: int
    robot: bool


@dataclass(frozen=True)
class Readout:
    """Rows of a batch's action tokens int64 [B, K * action_tokens_per_step] and embodied tokens int64
    [B, embodied_tokens], which video prompts lack."""

    actions: Tensor
    embodied: Tensor | None


@dataclass(frozen=True)
class PackedPrompts:
    """Prompts of some batches one after the other.

    input_ids   int64 [T]
    positions   int64 [3, T], rotary positions in time, row and column
    packed      where each prompt begins
    image_rows  int64 [I], where the image tokens are
    readouts    one a batch
    """

    input_ids: Tensor
    positions: Tensor
    packed: Packed
    image_rows: Tensor
    readouts: tuple[Readout, ...]

    def padded(self, multiple: int, pad_id: int) -> PackedPrompts:
        """With one prompt more, of padding tokens that nothing reads: T is a multiple of a number then."""
        extra = multiple - len(self.input_ids) % multiple
        ids = functional.pad(self.input_ids, (0, extra), value=pad_id)
        starts = torch.cat([self.packed.starts, self.packed.starts[-1:] + extra])
        packed = replace(self.packed, starts=starts, longest=max(self.packed.longest, multiple))
        return replace(self, input_ids=ids, positions=functional.pad(self.positions, (0, extra)), packed=packed)

    def to(self, device: torch.device) -> PackedPrompts:
        """The same on a device, by one copy that does not wait for it."""
        rows = [row for r in self.readouts for row in (r.actions, r.embodied) if row is not None]
        tensors = [self.input_ids, self.positions, self.packed.starts, self.image_rows, *rows]
        flat = torch.cat([tensor.long().flatten() for tensor in tensors])
        moved = (flat.pin_memory() if device.type == "cuda" else flat).to(device, non_blocking=True)
        parts = zip(moved.split([tensor.numel() for tensor in tensors]), tensors, strict=True)
        ids, positions, starts, images, *rows = [part.view(tensor.shape) for part, tensor in parts]
        left = iter(rows)
        readouts = tuple(Readout(next(left), None if r.embodied is None else next(left)) for r in self.readouts)
        return PackedPrompts(ids, positions, replace(self.packed, starts=starts.int()), images, readouts)


class PromptBuilder:
    """Builds prompts; each distinct instruction is tokenised once while it stays in the cache.

    Args:
        tokenizer: with the chat markers and the action tokens.
        settings: how many of which tokens.
        steps: K.
        image_tokens: tokens one view's image takes.

    Attributes:
        added: ids of the tokens that prompts add to the vocabulary, of all groups.

    Raises:
        ValueError: more steps than groups of action tokens, or a marker the tokenizer does not know.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, settings: PromptSettings, steps: int, image_tokens: int
    ) -> None:
        if steps > settings.action_token_groups:
            raise ValueError(
                f"model.prompt.action_token_groups must be at least the {steps} future steps, "
                f"got {settings.action_token_groups}"
            )
        self._tokenizer = tokenizer
        self._settings = settings
        self._image_tokens = image_tokens
        self._cache: OrderedDict[tuple[str, bool], tuple[int, ...]] = OrderedDict()
        self.pad_id, self._start, self._end, self._vision_start, self._vision_end, self.image_id = (
            self._id(marker) for marker in CHAT_MARKERS
        )
        used = [self._id(action_token(k)) for k in range(steps)]
        self._user = self._text("user\n")
        self.action_ids = tuple(token for token in used for _ in range(settings.action_tokens_per_step))
        tokens = (*map(action_token, range(settings.action_token_groups)), EMBODIED_TOKEN)
        self.added = tuple(self._id(token) for token in tokens)
        self.embodied_ids = (self._id(EMBODIED_TOKEN),) * settings.embodied_tokens
        # The text after the instruction is the same in every prompt, so positions count from the end.
        self._tails = {robot: self._tail(robot) for robot in (False, True)}

    def pack(self, requests: Sequence[PromptRequest]) -> PackedPrompts:
        """The prompts of all requests, in order."""
        prompts = [self.tokens(text, r.views, r.robot) for r in requests for text in r.instructions]
        views = [r.views for r in requests for _ in r.instructions]
        lengths = tuple(map(len, prompts))
        input_ids = torch.tensor([token for prompt in prompts for token in prompt])
        return PackedPrompts(
            input_ids=input_ids,
            positions=torch.cat([self._rotary(*sizes) for sizes in zip(lengths, views, strict=True)], dim=1),
            packed=Packed.of(lengths, causal=True),
            image_rows=(input_ids == self.image_id).nonzero()[:, 0],
            readouts=self._readouts(requests, lengths),
        )

    def tokens(self, instruction: str, views: int, robot: bool) -> tuple[int, ...]:
        """Token ids of one prompt, without padding."""
        image = (self._vision_start, *(self.image_id,) * self._image_tokens, self._vision_end)
        return (self._start, *self._user, *image * views, *self._opening(instruction, robot)) + (self._tails[robot])

    @property
    def cached(self) -> int:
        """How many instructions are in the cache."""
        return len(self._cache)

    def _opening(self, instruction: str, robot: bool) -> tuple[int, ...]:
        """The text up to the first action token; the one part that differs between samples."""
        key = (instruction, robot)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        piece = (ROBOT_PROMPT if robot else VIDEO_PROMPT)[0]
        self._cache[key] = self._text(piece.format(instruction=instruction))
        if len(self._cache) > self._settings.cache_size:
            self._cache.popitem(last=False)
        return self._cache[key]

    def _tail(self, robot: bool) -> tuple[int, ...]:
        """Everything from the first action token on."""
        closing = (self._end, *self._text("\n"), self._start, *self._text("assistant\n"))
        if not robot:
            return (*self.action_ids, *self._text(VIDEO_PROMPT[1]), *closing)
        middle, last = self._text(ROBOT_PROMPT[1]), self._text(ROBOT_PROMPT[2])
        return (*self.action_ids, *middle, *self.embodied_ids, *last, *closing)

    def _readouts(self, requests: Sequence[PromptRequest], lengths: Sequence[int]) -> tuple[Readout, ...]:
        ends = torch.tensor(lengths).cumsum(0).split([len(r.instructions) for r in requests])
        found = []
        for request, end in zip(requests, ends, strict=True):
            tail = self._tails[request.robot]
            first = end[:, None] - len(tail)
            embodied = None
            if request.robot:
                embodied = first + tail.index(self.embodied_ids[0]) + torch.arange(len(self.embodied_ids))
            found.append(Readout(first + torch.arange(len(self.action_ids)), embodied))
        return tuple(found)

    def _rotary(self, length: int, views: int) -> Tensor:
        """Positions int64 [3, length] of a prompt (transformers, `Qwen3VLModel.get_rope_index`).

        Text counts on in all three axes. An image's tokens share one time; rows and columns count from there, and the
        text behind it goes on past the larger of the two.
        """
        head = self._head_positions(views)
        rest = torch.arange(length - head.shape[1]) + int(head.max()) + 1
        return torch.cat([head, rest.expand(3, -1)], dim=1)

    @functools.lru_cache(maxsize=16)  # noqa: B019 (a model has one builder)
    def _head_positions(self, views: int) -> Tensor:
        """Of the tokens up to the end of the last image."""
        side = math.isqrt(self._image_tokens)
        opening = 1 + len(self._user)
        parts, at = [torch.arange(opening).expand(3, -1)], opening
        for _ in range(views):
            row, column = (at + 1 + torch.arange(side * side) // d % side for d in (side, 1))
            end = torch.tensor([at + 1 + side])
            parts += [torch.tensor([[at]]).expand(3, 1), torch.stack([torch.full_like(row, at + 1), row, column])]
            parts.append(end.expand(3, 1))
            at = int(end) + 1
        return torch.cat(parts, dim=1)

    def _text(self, text: str) -> tuple[int, ...]:
        """Ids of plain text. A marker or action token spelled out in an instruction stays plain text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _id(self, token: str) -> int:
        found = self._tokenizer.convert_tokens_to_ids(token)
        if found is None or found == self._tokenizer.unk_token_id:
            raise ValueError(f"the tokenizer has no token {token}; a Qwen tokenizer with the added tokens is needed")
        return int(found)

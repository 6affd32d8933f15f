"""Instruction -> tokens of the student's prompt, and the positions of the action tokens.

Qwen's chat form with one user message: the images, then the text. Shapes: B batch, L longest prompt of the batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

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
class PromptBatch:
    """Padded prompts on the CPU.

    input_ids           int64 [B, L], padded on the left
    attention_mask      int64 [B, L], 0 on padding
    image_mask          int32 [B, L], 1 on image tokens
    action_positions    int64 [B, K * action_tokens_per_step]
    embodied_positions  int64 [B, embodied_tokens]; None in video prompts
    """

    input_ids: Tensor
    attention_mask: Tensor
    image_mask: Tensor
    action_positions: Tensor
    embodied_positions: Tensor | None


class PromptBuilder:
    """Builds prompts; each distinct instruction is tokenised once while it stays in the cache.

    Args:
        tokenizer: with the chat markers and the action tokens.
        settings: how many of which tokens.
        steps: K.
        image_tokens: tokens one view's image takes.

    Raises:
        ValueError: more steps than groups of action tokens, or a marker the tokenizer does not know.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, settings: PromptSettings, steps: int, image_tokens: int
    ) -> None:
        if steps > settings.action_token_groups:
            raise ValueError(
                f"PromptSettings.action_token_groups must be at least the {steps} future steps, "
                f"got {settings.action_token_groups}"
            )
        self._tokenizer = tokenizer
        self._settings = settings
        self._image_tokens = image_tokens
        self._cache: OrderedDict[tuple[str, bool], tuple[int, ...]] = OrderedDict()
        self.pad_id, self._start, self._end, self._vision_start, self._vision_end, self.image_id = (
            self._id(marker) for marker in CHAT_MARKERS
        )
        groups = [self._id(action_token(k)) for k in range(steps)]
        self.action_ids = tuple(token for token in groups for _ in range(settings.action_tokens_per_step))
        self.embodied_ids = (self._id(EMBODIED_TOKEN),) * settings.embodied_tokens
        # The text after the instruction is the same in every prompt, so positions count from the end.
        self._tails = {robot: self._tail(robot) for robot in (False, True)}

    def batch(self, instructions: Sequence[str], views: int, robot: bool) -> PromptBatch:
        """Prompts of a batch; `robot` asks for policy actions as well."""
        prompts = [self.tokens(text, views, robot) for text in instructions]
        length = max(map(len, prompts))
        ids = torch.tensor([[self.pad_id] * (length - len(p)) + list(p) for p in prompts])
        # The padding token is never part of a prompt: text is tokenised with special tokens read as plain text.
        mask = (ids != self.pad_id).long()
        actions, embodied = self._positions(length, len(prompts), robot)
        return PromptBatch(ids, mask, (ids == self.image_id).int(), actions, embodied)

    def tokens(self, instruction: str, views: int, robot: bool) -> tuple[int, ...]:
        """Token ids of one prompt, without padding."""
        image = (self._vision_start, *(self.image_id,) * self._image_tokens, self._vision_end)
        return (self._start, *self._text("user\n"), *image * views, *self._opening(instruction, robot)) + (
            self._tails[robot]
        )

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

    def _positions(self, length: int, count: int, robot: bool) -> tuple[Tensor, Tensor | None]:
        first = length - len(self._tails[robot])
        actions = first + torch.arange(len(self.action_ids)).expand(count, -1)
        if not robot:
            return actions, None
        start = first + self._tails[robot].index(self.embodied_ids[0])
        return actions, start + torch.arange(len(self.embodied_ids)).expand(count, -1)

    def _text(self, text: str) -> tuple[int, ...]:
        """Ids of plain text. A marker or action token spelled out in an instruction stays plain text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _id(self, token: str) -> int:
        found = self._tokenizer.convert_tokens_to_ids(token)
        if found is None or found == self._tokenizer.unk_token_id:
            raise ValueError(f"the tokenizer has no token {token}; a Qwen tokenizer with the added tokens is needed")
        return int(found)

"""The student's tokenizers: a byte-level one built in memory, and the special tokens both kinds get."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

CHAT_MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
"""Qwen's markers the prompts are made of; the first one pads."""

WORDS = (
    *("task", "is", "Infer", "the", "temporal", "dynamics", "from", "of", "future", "frames", "and", "produce"),
    *("corresponding", "policy", "actions", "pick", "up", "place", "put", "push", "turn", "open", "close", "it", "in"),
    *("on", "to", "a", "basket", "bowl", "plate", "drawer", "cabinet", "stove", "top", "move", "lift", "closer"),
    *("red", "green", "blue", "yellow", "purple", "orange", "cube", "ball", "can", "left", "right"),
    *("pushing", "pulling", "moving", "lifting"),
)
"""Words of prompts and robot instructions: one token each after a space, so that prompts are short on a CPU."""

EMBODIED_TOKEN = "<|embodied_action|>"


def action_token(group: int) -> str:
    """The token whose hidden states are the latent action of one step."""
    return f"<|action_{group}|>"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 byte tokens, a few words and Qwen's chat markers: any text, no file, no training."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges(WORDS)
    vocab = {piece: i for i, piece in enumerate([*alphabet, *map("".join, merges)])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=CHAT_MARKERS[0])
    tokenizer.add_tokens(list(CHAT_MARKERS), special_tokens=True)
    return tokenizer


def _merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """The rules that put each word and the space before it together, byte by byte from the left."""
    spaced = ["\u0120" + word for word in words]  # how byte-level tokenizers write a space
    return list(dict.fromkeys((word[:end], word[end]) for word in spaced for end in range(1, len(word))))


def add_action_tokens(tokenizer: PreTrainedTokenizerBase, groups: int) -> None:
    """Add `<|action_0|>`… and `<|embodied_action|>`, in the order of the released checkpoints."""
    tokenizer.add_tokens([*map(action_token, range(groups)), EMBODIED_TOKEN], special_tokens=True)

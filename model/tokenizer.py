"""The student's tokenizers: a byte-level one built in memory, and the special tokens both kinds get."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

CHAT_MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
"""Qwen's markers the prompts are made of; the first one pads."""

EMBODIED_TOKEN = "<|embodied_action|>"


def action_token(group: int) -> str:
    """The token whose hidden states are the latent action of one step."""
    return f"<|action_{group}|>"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 byte tokens and Qwen's chat markers: any text, no file, no training."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=CHAT_MARKERS[0])
    tokenizer.add_tokens(list(CHAT_MARKERS), special_tokens=True)
    return tokenizer


def add_action_tokens(tokenizer: PreTrainedTokenizerBase, groups: int) -> None:
    """Add `<|action_0|>`… and `<|embodied_action|>`, in the order of the released checkpoints."""
    tokenizer.add_tokens([*map(action_token, range(groups)), EMBODIED_TOKEN], special_tokens=True)

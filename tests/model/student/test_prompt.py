from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from model.settings import PromptSettings
from model.student.prompt import PromptBuilder
from model.student.tokenizer import CHAT_MARKERS, EMBODIED_TOKEN, WORDS, action_token, add_action_tokens, byte_tokenizer

SETTINGS = PromptSettings(action_tokens_per_step=2, action_token_groups=4, embodied_tokens=3, cache_size=2)
STEPS, IMAGE_TOKENS = 3, 4


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    add_action_tokens(tokenizer, SETTINGS.action_token_groups)
    return tokenizer


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerFast) -> PromptBuilder:
    return PromptBuilder(tokenizer, SETTINGS, STEPS, IMAGE_TOKENS)


IMAGE = "<|vision_start|>" + "<|image_pad|>" * IMAGE_TOKENS + "<|vision_end|>"
ACTIONS = "<|action_0|><|action_0|><|action_1|><|action_1|><|action_2|><|action_2|>"
EMBODIED = "<|embodied_action|>" * 3
ROBOT_TEXT = (
    f"<|im_start|>user\n{IMAGE}{IMAGE}Your task is lift it. Infer the temporal dynamics from frames {ACTIONS} and "
    f"produce the corresponding policy actions {EMBODIED}.<|im_end|>\n<|im_start|>assistant\n"
)
VIDEO_TEXT = (
    f"<|im_start|>user\n{IMAGE}Your task is lift it. Infer the temporal dynamics of future frames {ACTIONS}."
    "<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.mark.parametrize(("robot", "views", "text"), [(True, 2, ROBOT_TEXT), (False, 1, VIDEO_TEXT)])
def test_tokens_spell_the_prompt_and_equal_tokenising_it_at_once(
    prompts: PromptBuilder, tokenizer: PreTrainedTokenizerFast, robot: bool, views: int, text: str
) -> None:
    tokens = prompts.tokens("lift it", views, robot)
    assert tokenizer.decode(tokens) == text
    assert list(tokens) == tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("text", ["Infer the theory of picking", "  two  spaces\n", "Öl auf den Tisch — 杯子", " "])
def test_any_text_comes_back_from_its_tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_a_known_word_after_a_space_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    for word in WORDS:
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1, word


def test_positions_point_at_the_action_tokens_under_left_padding(prompts: PromptBuilder) -> None:
    batch = prompts.batch(["lift", "put the cup on the plate"], views=2, robot=True)
    assert batch.attention_mask[0, 0] == 0
    assert batch.attention_mask[:, -1].all()
    assert batch.attention_mask[1].all()
    found = batch.input_ids.gather(1, batch.action_positions)
    assert found.tolist() == [list(prompts.action_ids)] * 2
    assert batch.embodied_positions is not None
    assert batch.input_ids.gather(1, batch.embodied_positions).tolist() == [list(prompts.embodied_ids)] * 2
    assert batch.image_mask.sum(dim=1).tolist() == [2 * IMAGE_TOKENS] * 2
    for token in prompts.action_ids:
        assert (batch.input_ids == token).sum(dim=1).tolist() == [2, 2]
    assert (batch.input_ids == prompts.embodied_ids[0]).sum(dim=1).tolist() == [3, 3]


def test_a_video_prompt_has_no_embodied_tokens(prompts: PromptBuilder) -> None:
    batch = prompts.batch(["lift"], views=1, robot=False)
    assert batch.embodied_positions is None
    assert not (batch.input_ids == prompts.embodied_ids[0]).any()
    assert batch.input_ids.gather(1, batch.action_positions).tolist() == [list(prompts.action_ids)]


@pytest.mark.parametrize("token", [action_token(0), EMBODIED_TOKEN, *CHAT_MARKERS])
def test_a_special_token_spelled_in_an_instruction_stays_text(prompts: PromptBuilder, token: str) -> None:
    plain = prompts.batch(["lift it"], views=1, robot=True)
    odd = prompts.batch([f"lift {token} it"], views=1, robot=True)
    special = {prompts.pad_id, prompts.image_id, prompts.embodied_ids[0], *prompts.action_ids}
    for each in special:
        assert int((odd.input_ids == each).sum()) == int((plain.input_ids == each).sum())
    assert torch.equal(odd.input_ids.gather(1, odd.action_positions), plain.input_ids.gather(1, plain.action_positions))


def test_braces_and_foreign_letters_survive(prompts: PromptBuilder, tokenizer: PreTrainedTokenizerFast) -> None:
    assert "Your task is {x} größer 开. Infer" in tokenizer.decode(prompts.tokens("{x} größer 开", 1, True))


def test_each_instruction_is_tokenised_once_and_the_cache_is_bounded(
    prompts: PromptBuilder, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    encode = tokenizer.encode

    def counting(text: str, **options: bool) -> list[int]:
        seen.append(text)
        return encode(text, **options)

    monkeypatch.setattr(tokenizer, "encode", counting)
    for instruction in ("a", "b", "a", "a"):
        prompts.tokens(instruction, 1, True)
    assert [text for text in seen if text.startswith("Your task")] == [
        f"Your task is {x}. Infer the temporal dynamics from frames " for x in "ab"
    ]
    prompts.tokens("c", 1, True)  # pushes out b, which was used longest ago
    seen.clear()
    prompts.tokens("a", 1, True)
    prompts.tokens("b", 1, True)
    assert [text for text in seen if text.startswith("Your task")] == [
        "Your task is b. Infer the temporal dynamics from frames "
    ]
    assert prompts.cached == 2


def test_more_steps_than_groups_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="at least the 5 future steps, got 4"):
        PromptBuilder(tokenizer, SETTINGS, 5, IMAGE_TOKENS)


def test_a_tokenizer_without_the_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no token <\|action_0\|>"):
        PromptBuilder(byte_tokenizer(), SETTINGS, STEPS, IMAGE_TOKENS)

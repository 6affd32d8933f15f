from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from model.settings import PromptSettings
from model.student.loading import load_backbone
from model.student.prompt import PackedPrompts, PromptBuilder, PromptRequest
from model.student.tokenizer import CHAT_MARKERS, EMBODIED_TOKEN, WORDS, action_token, add_action_tokens, byte_tokenizer
from tests.model.helpers import small_settings

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


def picked(packed: PackedPrompts, rows: torch.Tensor) -> list[list[int]]:
    return packed.input_ids[rows].tolist()


def test_prompts_lie_one_after_the_other_and_readouts_point_at_their_tokens(prompts: PromptBuilder) -> None:
    texts, video = ["lift", "put the cup on the plate"], ["push"]
    packed = prompts.pack([PromptRequest(texts, 2, robot=True), PromptRequest(video, 1, robot=False)])
    each = [*(prompts.tokens(text, 2, True) for text in texts), prompts.tokens("push", 1, False)]
    assert packed.input_ids.tolist() == [token for prompt in each for token in prompt]
    assert packed.packed.starts.tolist() == [0, len(each[0]), len(each[0]) + len(each[1]), sum(map(len, each))]
    assert packed.packed.causal
    robots, videos = packed.readouts
    assert picked(packed, robots.actions) == [list(prompts.action_ids)] * 2
    assert robots.embodied is not None
    assert picked(packed, robots.embodied) == [list(prompts.embodied_ids)] * 2
    assert picked(packed, videos.actions) == [list(prompts.action_ids)]
    assert videos.embodied is None
    assert packed.input_ids[packed.image_rows].tolist() == [prompts.image_id] * (5 * IMAGE_TOKENS)
    assert len(packed.image_rows) == int((packed.input_ids == prompts.image_id).sum())


def test_padding_is_one_prompt_more_and_moves_nothing(prompts: PromptBuilder) -> None:
    plain = prompts.pack([PromptRequest(["lift"], 1, robot=True)])
    padded = plain.padded(128, prompts.pad_id)
    count = len(plain.input_ids)
    assert len(padded.input_ids) % 128 == 0
    assert torch.equal(padded.input_ids[:count], plain.input_ids)
    assert torch.equal(padded.positions[:, :count], plain.positions)
    assert padded.packed.starts.tolist() == [0, count, len(padded.input_ids)]
    assert padded.packed.longest >= int(padded.packed.starts.diff().max())
    assert len(padded.padded(128, prompts.pad_id).input_ids) == len(padded.input_ids) + 128  # as many prompts always


@pytest.mark.parametrize("views", [1, 2, 3])
def test_rotary_positions_are_those_of_transformers(views: int) -> None:
    settings = small_settings()
    model = load_backbone(settings.backbone, settings.prompt)[1]
    builder = PromptBuilder(load_backbone(settings.backbone, settings.prompt)[0], settings.prompt, STEPS, 4)
    packed = builder.pack([PromptRequest(["lift", "close the drawer"], views, robot=True)])
    found = []
    for ids in packed.input_ids.split(packed.packed.starts.diff().tolist()):
        grid = torch.tensor([[1, 4, 4]] * views)
        found.append(model.get_rope_index(ids[None], (ids == builder.image_id).int()[None], grid)[0][:, 0])
    assert torch.equal(packed.positions, torch.cat(found, dim=1))


@pytest.mark.parametrize("token", [action_token(0), EMBODIED_TOKEN, *CHAT_MARKERS])
def test_a_special_token_spelled_in_an_instruction_stays_text(prompts: PromptBuilder, token: str) -> None:
    plain, odd = (prompts.pack([PromptRequest([text], 1, robot=True)]) for text in ("lift it", f"lift {token} it"))
    special = {prompts.pad_id, prompts.image_id, prompts.embodied_ids[0], *prompts.action_ids}
    for each in special:
        assert int((odd.input_ids == each).sum()) == int((plain.input_ids == each).sum())
    assert picked(odd, odd.readouts[0].actions) == picked(plain, plain.readouts[0].actions)


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

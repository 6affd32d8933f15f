from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.settings import PredictorSettings
from model.world_model.predictor import LatentPredictor, rotary_angles

STEPS, TOKENS, ACTION_TOKENS = 3, 4, 2


@pytest.fixture(scope="module")
def predictor() -> LatentPredictor:
    torch.manual_seed(0)
    settings = PredictorSettings(depth=2, heads=2, dim=24, views=2)
    return LatentPredictor(settings, STEPS, TOKENS, 5, 6, ACTION_TOKENS, "sdpa").eval()


def _inputs(count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(count, STEPS * TOKENS, 10, generator=generator)
    return latents, torch.randn(count, STEPS * ACTION_TOKENS, 6, generator=generator)


@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("what", ["latents", "actions"])
@torch.no_grad()
def test_a_change_at_a_step_moves_that_step_and_later_ones_alone(
    predictor: LatentPredictor, step: int, what: str
) -> None:
    latents, actions = _inputs()
    before = predictor(latents, actions).unflatten(1, (STEPS, TOKENS))
    changed, tokens = (latents, TOKENS) if what == "latents" else (actions, ACTION_TOKENS)
    changed[:, step * tokens : (step + 1) * tokens] = 7.0
    after = predictor(latents, actions).unflatten(1, (STEPS, TOKENS))
    assert torch.equal(after[:, :step], before[:, :step])
    moved = (after != before).flatten(2).any(dim=2)
    assert moved[:, step:].all()


@torch.no_grad()
def test_every_token_of_a_step_sees_the_whole_step(predictor: LatentPredictor) -> None:
    latents, actions = _inputs()
    before = predictor(latents, actions)
    latents[:, TOKENS - 1] += 1.0  # the last patch of step 0
    assert (predictor(latents, actions)[:, :TOKENS] != before[:, :TOKENS]).any(dim=2).all()


@torch.no_grad()
def test_samples_do_not_mix(predictor: LatentPredictor) -> None:
    latents, actions = _inputs()
    before = predictor(latents, actions)
    latents[1], actions[1] = 3.0, -3.0
    after = predictor(latents, actions)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_angles_spell_frame_row_and_column() -> None:
    # 14 channels: three parts of 4 (two frequencies, tiled); 2 channels are not turned.
    angles = rotary_angles(steps=3, grid=3, action_tokens=1, head_width=14).unflatten(0, (3, 10))
    assert angles[2, 0].tolist() == pytest.approx([2, 0.02, 2, 0.02] + [0] * 8)
    assert angles[1, 1 + 5].tolist() == pytest.approx([1, 0.01] * 2 + [1, 0.01] * 2 + [2, 0.02] * 2)


def literal_prediction(predictor: LatentPredictor, settings: PredictorSettings, latents: Tensor, a: Tensor) -> Tensor:
    """The predictor once more for one sample, token by token and channel by channel, in float64."""
    p = {name: tensor.double() for name, tensor in predictor.state_dict().items()}
    grid, width = math.isqrt(predictor.tokens), settings.dim // settings.heads
    latents, a = latents.double(), a.double()

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean()
        return (
            centred / (centred.square().mean() + settings.layer_norm_eps).sqrt() * p[f"{name}.weight"]
            + p[f"{name}.bias"]
        )

    def turned(x: Tensor, where: tuple[int, int, int]) -> Tensor:
        """The three parts are as wide as an even number allows; what is left over stays."""
        part, out = (width // 3) // 2 * 2, x.clone()
        for axis in range(3):
            for c in range(part):
                angle = where[axis] * 10000.0 ** (-(c % (part // 2)) / (part / 2))
                here = axis * part + c
                partner = -x[here + 1] if c % 2 == 0 else x[here - 1]
                out[here] = x[here] * math.cos(angle) + partner * math.sin(angle)
        return out

    tokens, places = [], []
    for step in range(predictor.steps):
        for i in range(predictor.action_tokens):
            tokens.append(linear("action_encoder", a[step * predictor.action_tokens + i]))
            places.append((step, 0, 0))
        for i in range(predictor.tokens):
            tokens.append(linear("predictor_embed", latents[step * predictor.tokens + i]))
            places.append((step, i // grid, i % grid))
    for block in range(settings.depth):
        name = f"predictor_blocks.{block}"
        qkv = [linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x)) for x in tokens]
        split = [x.reshape(3, settings.heads, width) for x in qkv]
        q, k = (
            [[turned(x[i, h], w) for h in range(settings.heads)] for x, w in zip(split, places, strict=True)]
            for i in (0, 1)
        )
        for i, place in enumerate(places):
            seen = [j for j, other in enumerate(places) if other[0] <= place[0]]
            heads = []
            for h in range(settings.heads):
                scores = torch.stack([q[i][h] @ k[j][h] for j in seen]) / math.sqrt(width)
                heads.append(scores.softmax(0) @ torch.stack([split[j][2, h] for j in seen]))
            tokens[i] = tokens[i] + linear(f"{name}.attn.proj", torch.cat(heads))
        for i, x in enumerate(tokens):
            hidden = linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x))
            tokens[i] = x + linear(f"{name}.mlp.fc2", torch.nn.functional.gelu(hidden))
    size = predictor.action_tokens + predictor.tokens
    patches = [x for i, x in enumerate(tokens) if i % size >= predictor.action_tokens]
    return torch.stack([linear("predictor_proj", norm("predictor_norm", x)) for x in patches])


@pytest.mark.parametrize(
    ("heads", "head_width", "views", "grid", "steps", "action_tokens", "eps"),
    [
        (1, 6, 1, 1, 1, 1, 1e-5),
        (2, 8, 2, 2, 3, 2, 1e-5),  # 8: not divisible by 3
        (3, 9, 1, 2, 2, 1, 1e-6),  # 9: not by 6
        (2, 16, 3, 1, 4, 3, 1e-6),
        (1, 13, 2, 3, 2, 1, 0.1),  # an epsilon that shows
    ],
)
@torch.no_grad()
def test_any_sizes_compute_what_the_definition_says(
    heads: int, head_width: int, views: int, grid: int, steps: int, action_tokens: int, eps: float
) -> None:
    torch.manual_seed(0)
    settings = PredictorSettings(depth=2, heads=heads, dim=heads * head_width, views=views, layer_norm_eps=eps)
    predictor = LatentPredictor(settings, steps, grid * grid, 5, 6, action_tokens, "sdpa").eval()
    for parameter in predictor.parameters():  # larger than at the start, so that every part shows
        parameter.copy_(0.3 * torch.randn_like(parameter))
    latents = torch.randn(2, steps * grid * grid, views * 5)
    actions = torch.randn(2, steps * action_tokens, 6)
    predicted = predictor(latents, actions)
    for i in range(2):
        expected = literal_prediction(predictor, settings, latents[i], actions[i]).float()
        torch.testing.assert_close(predicted[i], expected, rtol=0, atol=2e-5)


def test_a_wrong_shape_is_refused(predictor: LatentPredictor) -> None:
    latents, actions = _inputs()
    with pytest.raises(ValueError, match=r"\(2, 8, 10\) and actions \(2, 4, 6\) at up to 3 steps, got \(2, 8, 10\)"):
        predictor(latents[:, :8], actions)
    with pytest.raises(ValueError, match=r"takes latents \(2, 12, 10\).*, got \(2, 13, 10\)"):
        predictor(torch.cat([latents, latents[:, :1]], dim=1), actions)


def test_tokens_that_form_no_square_are_refused() -> None:
    with pytest.raises(ValueError, match="square grid, got 5"):
        LatentPredictor(PredictorSettings(depth=1, heads=1, dim=6), 1, 5, 4, 4, 1)


@pytest.mark.parametrize("dim", [20, 28])
@torch.no_grad()
def test_with_init_copy_the_prediction_starts_as_the_input(dim: int) -> None:
    settings = PredictorSettings(depth=2, heads=2, dim=dim, views=2, init="copy", layer_norm_eps=1e-9)
    copier = LatentPredictor(settings, STEPS, TOKENS, 10, 6, ACTION_TOKENS, "sdpa")
    latents = torch.randn(2, STEPS * TOKENS, 2, 10)
    # As the encoder's final norm leaves each view: mean 0, variance 1.
    latents = torch.nn.functional.layer_norm(latents, (10,)).flatten(2)
    predicted = copier(latents, torch.randn(2, STEPS * ACTION_TOKENS, 6))
    torch.testing.assert_close(predicted, latents, rtol=0, atol=1e-4)


def test_with_init_copy_gradients_flow() -> None:
    settings = PredictorSettings(depth=2, heads=2, dim=20, views=2, init="copy")
    copier = LatentPredictor(settings, STEPS, TOKENS, 10, 6, ACTION_TOKENS, "sdpa")
    copier(torch.randn(2, STEPS * TOKENS, 20), torch.randn(2, STEPS * ACTION_TOKENS, 6)).square().sum().backward()
    for block in copier._blocks():
        for branch in (block.attn.proj, block.mlp.fc2):
            assert branch.weight.grad is not None
            assert branch.weight.grad.abs().sum() > 0


def test_with_init_copy_a_narrow_predictor_is_refused() -> None:
    settings = PredictorSettings(depth=1, heads=2, dim=18, views=2, init="copy")
    with pytest.raises(ValueError, match=r"dim=18 is too small .* set model\.predictor\.dim=20 or more"):
        LatentPredictor(settings, STEPS, TOKENS, 10, 6, ACTION_TOKENS, "sdpa")

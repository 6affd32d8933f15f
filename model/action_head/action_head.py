"""Conditional flow matching over an action chunk: the loss, and the sampler (GR00T N1 style).

A diffusion transformer turns noise into normalised actions, given the student's embodied tokens and the robot's
state. Parameter names are those of the released checkpoints.

Shapes: B batch, T actions in a chunk, A action width, S state width, L context tokens, E context width,
F learned future tokens, W transformer width, R noise draws a sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.action_head.continuing import continued
from model.action_head.diffusion_transformer import DiffusionTransformer
from model.settings import ActionHeadSettings


def sin_cos_embedding(time: Tensor, channels: int) -> Tensor:
    """Sines then cosines of time [B] -> float32 [B, channels]; frequencies 10000 ** (-i / (channels / 2))."""
    half = channels // 2
    exponent = -math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=time.device) / half
    angle = time.float()[:, None] * exponent.exp()
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class TwoLayerMLP(nn.Module):
    """Linear, ReLU, linear."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(inputs, hidden)
        self.layer2 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return self.layer2(functional.relu(self.layer1(x)))


class ActionEncoder(nn.Module):
    """Noisy actions and their time -> tokens."""

    def __init__(self, action_width: int, width: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(action_width, width)
        self.layer2 = nn.Linear(2 * width, width)
        self.layer3 = nn.Linear(width, width)

    def forward(self, actions: Tensor, bucket: Tensor) -> Tensor:
        """actions [B, T, A], bucket int64 [B] -> [B, T, W]."""
        x = self.layer1(actions)
        time = sin_cos_embedding(bucket, x.shape[-1]).to(x.dtype)[:, None].expand_as(x)
        return self.layer3(functional.silu(self.layer2(torch.cat([x, time], dim=-1))))


class ActionHead(nn.Module):
    """Loss for training and a sampler for acting. Actions and state are normalised to about [-1, 1].

    Args:
        settings: sizes and the flow's numbers.
        context_width: E.
        action_width: A.
        state_width: S; 0 for a robot without state.
        chunk: T.
        backend: see `model.attention`.
        state_dropout: probability, in training mode, that zeros take the place of a state's token.

    Raises:
        ValueError: the chunk has more actions than there are positions.
    """

    def __init__(
        self,
        settings: ActionHeadSettings,
        context_width: int,
        action_width: int,
        state_width: int,
        chunk: int,
        backend: str = "auto",
        state_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if chunk > settings.max_positions:
            raise ValueError(f"max_positions must be at least the chunk of {chunk} actions: {settings.max_positions}")
        width = settings.heads * settings.head_width
        self.settings, self.state_dropout = settings, state_dropout
        self.chunk, self.action_width, self.state_width = chunk, action_width, state_width
        self.model = DiffusionTransformer(settings, context_width, backend)
        if state_width:
            self.state_encoder = TwoLayerMLP(state_width, settings.hidden_size, width)
        self.action_encoder = ActionEncoder(action_width, width)
        self.action_decoder = TwoLayerMLP(settings.hidden_size, settings.hidden_size, action_width)
        self.future_tokens = nn.Embedding(settings.future_tokens, width)
        self.position_embedding = nn.Embedding(settings.max_positions, width)
        nn.init.normal_(self.future_tokens.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def velocity(self, noisy: Tensor, bucket: Tensor, context: Tensor, state: Tensor | None) -> Tensor:
        """Predicted d(actions)/dt [B, T, A] at noisy actions [B, T, A] and time bucket int64 [B].

        The sequence is state (if any), future tokens, actions; learned positions are added to the actions alone.
        """
        actions = self.action_encoder(noisy, bucket) + self.position_embedding.weight[: noisy.shape[1]]
        future = self.future_tokens.weight.expand(noisy.shape[0], -1, -1)
        parts = [future, actions] if state is None else [self._state_token(state), future, actions]
        dtype = actions.dtype
        out = self.model(torch.cat([part.to(dtype) for part in parts], dim=1), context, bucket)
        return self.action_decoder(out[:, -noisy.shape[1] :])

    def _state_token(self, state: Tensor) -> Tensor:
        """[B, S] -> [B, 1, W]. A state that is left out is zeros here rather than in `state`, where they would be the
        middle of the range, a pose as good as any; and rather than learned, which no other format has a place for."""
        token = self.state_encoder(state)
        if self.training and self.state_dropout:
            token = token * (torch.rand(len(token), 1, device=token.device) >= self.state_dropout)
        return token[:, None]

    def loss(
        self, context: Tensor, state: Tensor | None, actions: Tensor, mask: Tensor | None, noise: Tensor, time: Tensor
    ) -> Tensor:
        """Mean squared error of the velocity, over unmasked actions.

        With noise e and time t the head sees (1 - t) e + t a and must tell a - e.

        Args:
            context: [B, L, E].
            state: [B, S] or None.
            actions: [B, T, A].
            mask: bool [B, T], False where an action is padding; None: all count.
            noise: [B, T, A].
            time: float32 [B] in [0, 1).

        Returns:
            float32 scalar; 0 if every action is masked.
        """
        error = self.errors(context, state, actions, noise, time)
        if mask is None:
            return error.mean()
        return error.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)

    def errors(self, context: Tensor, state: Tensor | None, actions: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The squared error of each action step, float32 [B, T]; arguments as in `loss`."""
        t = time[:, None, None]
        predicted = self.velocity((1 - t) * noise + t * actions, self._bucket(time), context, state)
        return (predicted.float() - (actions - noise)).square().mean(dim=-1)

    def training_loss(
        self,
        context: Tensor,
        state: Tensor | None,
        actions: Tensor,
        mask: Tensor | None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """`loss` over `repeats` draws of noise and time a sample. Shapes as in `loss`."""
        mask = None if mask is None else mask.repeat(self.settings.repeats, 1)
        context, state, actions, noise, time = self._drawn(context, state, actions, generator)
        return self.loss(context, state, actions, mask, noise, time)

    def sample_losses(
        self, context: Tensor, state: Tensor | None, actions: Tensor, mask: Tensor, generator: torch.Generator
    ) -> Tensor:
        """`training_loss` of each sample, float32 [B]; NaN where every action is masked."""
        errors = self.errors(*self._drawn(context, state, actions, generator)).unflatten(0, (-1, len(actions))).mean(0)
        return errors.masked_fill(~mask, 0.0).sum(1) / mask.sum(1)

    def _drawn(
        self, context: Tensor, state: Tensor | None, actions: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
        """Context, state, actions, noise and time of `repeats` draws a sample, [repeats * B, ...]."""
        repeats = self.settings.repeats
        context, actions = context.repeat(repeats, 1, 1), actions.repeat(repeats, 1, 1)
        state = None if state is None else state.repeat(repeats, 1)
        noise = torch.randn(actions.shape, generator=generator, device=actions.device)
        return context, state, actions, noise, self.draw_time(actions.shape[0], actions.device, generator)

    def draw_time(self, count: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
        """Times float32 [count], t = (time_max - Beta(a, b)) / time_max, at least 0: more weight near pure noise.

        A Beta(a, b) variable is X / (X + Y) with X ~ Gamma(a), Y ~ Gamma(b); written out because PyTorch's Beta
        takes no generator.
        """
        a = torch.full((count,), self.settings.beta_a, device=device)
        b = torch.full((count,), self.settings.beta_b, device=device)
        # PyTorch offers a gamma sampler with a generator under this underscored name alone.
        x, y = torch._standard_gamma(a, generator=generator), torch._standard_gamma(b, generator=generator)
        return ((self.settings.time_max - x / (x + y)) / self.settings.time_max).clamp(min=0.0)

    @torch.no_grad()
    def sample(self, context: Tensor, state: Tensor | None, start: Tensor, steps: int | None = None) -> Tensor:
        """Actions float32 [B, T, A] by Euler integration from `start` (noise, [B, T, A]) at t = 0 to t = 1."""
        steps = self.settings.inference_steps if steps is None else steps
        actions = start
        for i in range(steps):
            time = torch.full((start.shape[0],), i / steps, device=start.device)
            actions = actions + self.velocity(actions, self._bucket(time), context, state).float() / steps
        return actions

    @torch.no_grad()
    def continue_chunk(
        self, context: Tensor, state: Tensor | None, start: Tensor, earlier: Tensor, weights: Tensor
    ) -> Tensor:
        """`sample`, led to an earlier chunk [B, T, A] by weights [B, T]: see `continuing`."""

        def velocity(noisy: Tensor, time: float) -> Tensor:
            times = torch.full((start.shape[0],), time, device=start.device)
            return self.velocity(noisy, self._bucket(times), context, state)

        return continued(velocity, start, earlier, weights, self.settings.inference_steps)

    def _bucket(self, time: Tensor) -> Tensor:
        return (time * self.settings.time_buckets).long()

"""VLA-JEPA: a student that sees the present, a world model that its latent actions must steer, an action head.

Targets reach losses, and the predictor's teacher-forced context shifted by one step (rules L4, L5); `act` and the
student take an `Observation` alone (rule L3). In a model with a stand-in for latent actions, which is a measure and no
policy, true actions may reach the predictor too.

Shapes: B batch, V views, K future steps, N tokens a step, D latent width, S state width, T actions in a chunk,
A action width.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from model.action_head.action_head import ActionHead
from model.losses import Losses, masked_mean, masked_step_mean, step_errors
from model.normalize import BuildStats, MinMaxScaler, require_channels
from model.settings import HeadInput, ModelSettings, Scaling, SteeredBy
from model.stand_in import STAND_INS, StandIn, of_another, with_another_future
from model.student.adapters import add_adapters, require_peft
from model.student.backbone import Student, StudentInput, StudentOutput
from model.world_model.predictor import LatentPredictor
from model.world_model.teacher_forced import TeacherForced
from pipeline.errors import RunError, SettingsError
from pipeline.format.schema import Observation, Sizes, Targets

TrainingBatch = tuple[Observation[Tensor], Targets[Tensor]]
"""What the student sees, and what is learned from it."""


class VLAJEPA(nn.Module):
    """The whole model. Make it with `build_model`.

    Attributes:
        student: images and instruction -> latent actions and embodied tokens.
        predictor: latents and latent actions -> next latents.
        action_head: tokens of the student and state -> actions; None for a video-only run.
        state_width: channels of the state that the model reads; 0 where the robot has none, or `use_state` is false.
    """

    def __init__(
        self, settings: ModelSettings, sizes: Sizes, stats: BuildStats | None, backbone_weights: bool = True
    ) -> None:
        super().__init__()
        if settings.loss.rollout and settings.loss.rollout_steps > sizes.steps:
            asked = settings.loss.rollout_steps
            raise ValueError(f"model.loss.rollout_steps={asked} must be at most the build's {sizes.steps} steps")
        self.settings, self.sizes = settings, sizes
        self.student = Student(settings.backbone, settings.prompt, sizes.steps, settings.attention, backbone_weights)
        self.predictor = LatentPredictor(
            settings.predictor,
            steps=sizes.steps,
            tokens=sizes.tokens,
            latent_width=sizes.width,
            action_width=self.student.width,
            action_tokens=settings.prompt.action_tokens_per_step,
            backend=settings.attention,
        )
        self.state_width = sizes.state if settings.use_state else 0
        self.stand_in: StandIn | None = None
        if settings.predictor.steered_by in STAND_INS:
            tokens, motion = sizes.steps * settings.prompt.action_tokens_per_step, sizes.chunk * sizes.action
            self.stand_in = StandIn(
                settings.predictor.steered_by, tokens, self.student.width, motion + self.state_width if motion else 0
            )
        self.action_head: ActionHead | None = None
        self.action_scaler: MinMaxScaler | None = None
        self.state_scaler: MinMaxScaler | None = None
        if sizes.action:
            self.action_head = ActionHead(
                settings.action_head,
                self.student.width,
                sizes.action,
                self.state_width,
                sizes.chunk,
                settings.attention,
                settings.state_dropout,
            )
            action = require_channels(None if stats is None else stats.action, "action", sizes.action)
            self.action_scaler = MinMaxScaler(action, settings.range_floor)
        if sizes.action and self.state_width:
            state = require_channels(None if stats is None else stats.state, "state", sizes.state)
            self.state_scaler = MinMaxScaler(state, settings.range_floor)
        self._freeze(settings.freeze)

    def add_adapters(self) -> None:
        """Train adapters in place of the backbone, where the settings say so.

        Raises:
            ValueError: a target of theirs names no layer.
        """
        lora = self.settings.backbone.lora
        if lora.rank:
            add_adapters(self.student.model, lora, self.student.prompts.added, self.settings.seed)
            self._freeze(self.settings.freeze)

    def forward(self, *batches: TrainingBatch, generator: torch.Generator | None = None) -> tuple[Losses, ...]:
        """Losses of some batches, of robots (with actions) or human video (without), in one pass for all.

        Args:
            batches: observations, and targets with as many views as the predictor takes, see `model.batch`.
            generator: of the action loss's noise, on the batches' device; None: PyTorch's default.

        Returns:
            One a batch.

        Raises:
            ValueError: only one of state and actions is there, or a shape does not fit the model.
        """
        if not self.student_counts:
            return self.losses_from([None] * len(batches), batches, generator)
        return self.losses_from(self.student(*(observation for observation, _ in batches)), batches, generator)

    def losses_from(
        self,
        outputs: Sequence[StudentOutput | None],
        batches: Sequence[TrainingBatch],
        generator: torch.Generator | None = None,
    ) -> tuple[Losses, ...]:
        """Losses of batches that the student has read, see `forward`; None where nothing of it counts."""
        for observation, targets in batches:
            if (targets.actions is None) != (observation.state is None):
                raise ValueError(
                    "a robot batch has state (maybe of width 0) and actions, a video batch neither; got one"
                )
        if self.settings.loss.other_targets and self.training:
            batches = [(observation, with_another_future(targets)) for observation, targets in batches]
        counts = [len(targets.context) for _, targets in batches]
        forced = TeacherForced.joined([self._teacher_forced(targets) for _, targets in batches])
        latent_actions = torch.cat(
            [self._steering(*batch, output) for batch, output in zip(batches, outputs, strict=True)]
        )
        predicted = self.predictor(forced.inputs, latent_actions)
        errors, copied = (
            step_errors(guess, forced.targets, self.sizes.steps).split(counts) for guess in (predicted, forced.inputs)
        )
        rollouts = self._rollout_errors(forced, latent_actions, counts)
        return tuple(
            self._batch_losses(batch, output, error, rollout, repeated, generator)
            for batch, output, error, rollout, repeated in zip(batches, outputs, errors, rollouts, copied, strict=True)
        )

    def losses(
        self, observation: Observation[Tensor], targets: Targets[Tensor], generator: torch.Generator | None = None
    ) -> Losses:
        """Losses of one batch, see `forward`."""
        return self.forward((observation, targets), generator=generator)[0]

    def _batch_losses(
        self,
        batch: TrainingBatch,
        output: StudentOutput | None,
        errors: Tensor,
        rollout_errors: Tensor | None,
        copied: Tensor,
        generator: torch.Generator | None,
    ) -> Losses:
        """Of a batch whose errors float32 [B, K] by teacher forcing, rollout and repetition are known."""
        observation, targets = batch
        mask, weights = targets.latent_mask, self.settings.loss
        world_model, per_step = masked_mean(errors, mask), masked_step_mean(errors.detach(), mask)
        nothing_changes = masked_step_mean(copied, mask)
        rollout = None if rollout_errors is None else masked_mean(rollout_errors, mask[:, : rollout_errors.shape[1]])
        latent = world_model if rollout is None else world_model + weights.rollout * rollout
        if targets.actions is None or output is None:
            weight = weights.world_model_on_video if targets.actions is None else weights.world_model_on_robot
            return Losses(weight * latent, world_model, rollout, None, per_step, nothing_changes)
        action = self._action_loss(output, observation.state, targets, generator)
        total = weights.action * action + weights.world_model_on_robot * latent
        return Losses(total, world_model, rollout, action, per_step, nothing_changes)

    @torch.no_grad()
    def act(
        self, observation: Observation[Tensor], generator: torch.Generator | None = None, start: Tensor | None = None
    ) -> Tensor:
        """Actions float32 [B, T, A] in the source's units.

        Args:
            observation: with a state (of width 0 if the robot has none).
            generator: of the noise the flow starts from, on the observation's device; None: PyTorch's default.
            start: the noise itself, float32 [B, T, A]; then no generator is used.

        Raises:
            RunError: the model has no action head, something else than its latent actions steers its predictor, or it
                is in training mode (dropout would disturb the actions).
            ValueError: the observation has no state.
        """
        self._require_policy()
        if observation.state is None:
            raise ValueError("act() needs an observation with state (of width 0 if the robot has none), got None")
        (output,) = self.student(observation)
        if start is None:
            head, _ = self._action_parts()
            shape = (len(observation.images), head.chunk, head.action_width)
            start = torch.randn(shape, generator=generator, device=output.latent_actions.device)
        return self._sampled(output, observation.state, start)

    @torch.no_grad()
    def act_continuing(
        self, observation: Observation[Tensor], start: Tensor, earlier: Tensor, weights: Tensor
    ) -> Tensor:
        """`act` from noise `start`, led to an earlier chunk float32 [B, T, A] in the source's units, by weights float32
        [B, T]: see `model.action_head.continuing`. Raises as `act`."""
        self._require_policy()
        if observation.state is None:
            raise ValueError("act_continuing() needs an observation with state, got None")
        (output,) = self.student(observation)
        head, scaler = self._action_parts()
        context, state = self._head_context(output), self._state(observation.state)
        return scaler.inverse(head.continue_chunk(context, state, start, scaler(earlier), weights))

    @torch.no_grad()
    def act_prepared(self, inputs: StudentInput, state: Tensor, start: Tensor) -> Tensor:
        """`act` on what `Student.prepare` made of one observation: nothing in it waits for the device."""
        self._require_policy()
        (output,) = self.student.read(inputs)
        return self._sampled(output, state, start)

    def _require_policy(self) -> None:
        self._action_parts()
        kind = self.settings.predictor.steered_by
        if kind != SteeredBy.LATENT_ACTIONS:
            raise RunError(f"a model of model.predictor.steered_by={kind} is a measure and no policy")
        if self.training:
            raise RunError("act() needs eval mode: call model.eval() first")

    def _sampled(self, output: StudentOutput, state: Tensor, start: Tensor) -> Tensor:
        head, scaler = self._action_parts()
        return scaler.inverse(head.sample(self._head_context(output), self._state(state), start))

    @torch.no_grad()
    def steering(self, observation: Observation[Tensor], targets: Targets[Tensor]) -> Tensor:
        """What steers the predictor, the student's latent actions or their stand-in: float32 [B, K*A, E]."""
        return self._steering(observation, targets, None if self.stand_in else self.student(observation)[0])

    def gathered(self, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """`function(self, *arguments)`, with the parameters of all parts at hand where the model is sharded."""
        return function(self, *arguments)

    def param_groups(self, lr_backbone: float, lr_action_head: float, lr_rest: float) -> list[dict[str, Any]]:
        """Groups for an optimiser: `name`, `params`, `lr`; every trainable parameter is in exactly one."""
        owners = {"student": "backbone", "action_head": "action_head", "predictor": "rest", "stand_in": "rest"}
        rates = {"backbone": lr_backbone, "action_head": lr_action_head, "rest": lr_rest}
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups[owners[name.split(".", 1)[0]]].append(parameter)
        return [{"name": name, "params": groups[name], "lr": rates[name]} for name in rates if groups[name]]

    @cached_property
    def student_counts(self) -> bool:
        """Whether a loss needs the student: with a stand-in and all of it frozen, none does."""
        parts = [self.student, *([] if self.action_head is None else [self.action_head])]
        return self.stand_in is None or any(p.requires_grad for part in parts for p in part.parameters())

    def _steering(
        self, observation: Observation[Tensor], targets: Targets[Tensor], output: StudentOutput | None
    ) -> Tensor:
        if self.stand_in is None:
            assert output is not None
            shuffled = self.settings.predictor.steered_by == SteeredBy.SHUFFLED and self.training
            return of_another(output.latent_actions) if shuffled else output.latent_actions
        motion = None
        if targets.actions is not None:
            state = None if observation.state is None else self._state(observation.state)
            motion = torch.cat([self._actions(targets).flatten(1), *([] if state is None else [state])], dim=1)
        return self.stand_in(observation.instruction, motion)

    def _freeze(self, names: tuple[str, ...]) -> None:
        modules = dict(self.named_modules())
        for name in names:
            if not name or name not in modules:
                near = difflib.get_close_matches(name, modules, n=5, cutoff=0.3)
                raise ValueError(f"model.freeze: there is no module {name!r}; close are {', '.join(near)}")
            modules[name].requires_grad_(False)

    def _teacher_forced(self, targets: Targets[Tensor]) -> TeacherForced:
        """z_0..z_{K-1} as inputs, z_1..z_K as targets."""
        return TeacherForced.of(targets, self.sizes, self.settings.predictor.views)

    def _rollout_errors(
        self, forced: TeacherForced, latent_actions: Tensor, counts: Sequence[int]
    ) -> Sequence[Tensor | None]:
        """Of each batch float32 [B, rollout_steps]: errors of the first steps, predicted from z_0 alone."""
        if not self.settings.loss.rollout:
            return [None] * len(counts)
        steps, tokens = self.settings.loss.rollout_steps, self.sizes.tokens
        predicted = self.predictor.rollout(forced.inputs[:, :tokens], latent_actions, steps)
        return step_errors(predicted, forced.targets[:, : steps * tokens], steps).split(list(counts))

    @torch.no_grad()
    def action_losses(self, batch: TrainingBatch, generator: torch.Generator) -> Tensor:
        """The action loss of each sample of a robot batch, float32 [B]; NaN where every action is masked."""
        observation, targets = batch
        head, _ = self._action_parts()
        context = self._head_context(self.student(observation)[0])
        assert observation.state is not None
        assert targets.action_mask is not None
        actions = self._actions(targets)
        return head.sample_losses(context, self._state(observation.state), actions, targets.action_mask, generator)

    def _action_loss(
        self, output: StudentOutput, state: Tensor | None, targets: Targets[Tensor], generator: torch.Generator | None
    ) -> Tensor:
        head, _ = self._action_parts()
        assert state is not None
        context = self._head_context(output)
        return head.training_loss(context, self._state(state), self._actions(targets), targets.action_mask, generator)

    def _head_context(self, output: StudentOutput) -> Tensor:
        """The tokens that the action head reads, [B, L, E]."""
        reads = self.settings.action_head.reads
        assert output.embodied is not None  # actions come with a state, and so with the robot prompt
        if reads == HeadInput.EMBODIED:
            return output.embodied
        if reads == HeadInput.LATENT:
            return output.latent_actions
        return torch.cat([output.latent_actions, output.embodied], dim=1)

    def _actions(self, targets: Targets[Tensor]) -> Tensor:
        """Scaled actions float32 [B, T, A]. Padding is zero in source units, which may be far outside the range; here
        it is 0, the middle of the range. What lies beyond quantiles becomes -1 or 1: an outlier is no target."""
        _, scaler = self._action_parts()
        assert targets.actions is not None
        actions, mask = scaler(targets.actions.detach()), targets.action_mask
        if self.settings.scaling == Scaling.QUANTILES:
            actions = actions.clamp(-1.0, 1.0)
        return actions if mask is None else actions.masked_fill(~mask[..., None], 0.0)

    def _state(self, state: Tensor) -> Tensor | None:
        bound = self.settings.state_bound
        return None if self.state_scaler is None else self.state_scaler(state).clamp(-bound, bound)

    def outside(self, state: Tensor) -> Tensor:
        """Which channels of a state are clipped at `state_bound` before the model sees them.

        Args:
            state: float32 [B, S] in the source's units.

        Returns:
            bool [B, S].
        """
        if self.state_scaler is None:
            return torch.zeros_like(state, dtype=torch.bool)
        return self.state_scaler(state).abs() > self.settings.state_bound

    def _action_parts(self) -> tuple[ActionHead, MinMaxScaler]:
        if self.action_head is None or self.action_scaler is None:
            raise RunError("this model was built for human video alone (sizes.action=0) and has no action head")
        return self.action_head, self.action_scaler


def build_model(
    settings: ModelSettings,
    sizes: Sizes,
    stats: BuildStats | None,
    adapters: bool = True,
    backbone_weights: bool = True,
) -> VLAJEPA:
    """A model on the CPU; the same settings, sizes and statistics give the same weights.

    Args:
        settings: everything about the model.
        sizes: of the robot build, or of the video build in a video-only run (state and action 0).
        stats: of the robot build; None in a video-only run.
        adapters: False: without those of `model.backbone.lora`, to be loaded or added afterwards.
        backbone_weights: False: those of the backbone are neither read nor drawn, since a checkpoint fills them all.

    Raises:
        SettingsError: sizes, statistics and settings do not fit together, or a package is missing.
    """
    require_peft(settings.backbone.lora)
    # Of a student that sees some of the cameras, `sizes` does not say how many the world model sees.
    views = len(settings.world_model_cameras) or (0 if settings.student_cameras else sizes.views)
    if views > settings.predictor.views:
        raise SettingsError(
            f"the world model sees {views} views and model.predictor.views is {settings.predictor.views}; set "
            f"model.predictor.views={views}, or name fewer in model.world_model_cameras"
        )
    # The caller's random state stays as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        try:
            model = VLAJEPA(settings, sizes, stats, backbone_weights)
            if adapters:
                model.add_adapters()
            return model
        except ValueError as error:
            raise SettingsError(f"the model does not fit the build: {error}") from error

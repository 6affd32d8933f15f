"""Settings of the model, checked where they enter. Defaults are the numbers of the reference system.

Fields hold plain values or other settings only, so a configuration file can fill them. The reference is VLA-JEPA
(arXiv 2602.10098) and its released code; where paper and code disagree, the code's number stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ATTENTION_BACKENDS = ("auto", "sdpa", "xformers")
DTYPES = ("float32", "bfloat16", "float16")


def require_at_least(settings: object, low: float, *names: str) -> None:
    """Raise ValueError naming the first field below `low`."""
    for name in names:
        value = getattr(settings, name)
        if not value >= low:
            raise ValueError(f"{type(settings).__name__}.{name} must be at least {low}, got {value!r}")


def require_one_of(settings: object, name: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError if a field holds none of the allowed strings."""
    value = getattr(settings, name)
    if value not in allowed:
        raise ValueError(f"{type(settings).__name__}.{name} must be one of {', '.join(allowed)}, got {value!r}")


@dataclass(frozen=True)
class TinyBackboneSettings:
    """A Qwen3-VL of random weights, small enough for a CPU. `heads` have half as many key-value heads."""

    layers: int = 2
    width: int = 64
    heads: int = 2
    vision_layers: int = 2
    vision_width: int = 32
    vision_heads: int = 2

    def __post_init__(self) -> None:
        require_at_least(self, 1, "vision_layers", "vision_heads")
        require_at_least(self, 2, "layers", "heads")
        for width, heads, multiple in (("width", "heads", 4), ("vision_width", "vision_heads", 4)):
            # Rotary halves over two or three axes need a head width that is a multiple of four.
            size, count = getattr(self, width), getattr(self, heads)
            if size < multiple * count or size % (multiple * count):
                raise ValueError(f"TinyBackboneSettings.{width} must be a multiple of 4 x {heads}={count}, got {size}")
        if self.heads % 2:
            raise ValueError(f"TinyBackboneSettings.heads must be even, got {self.heads}")


@dataclass(frozen=True)
class BackboneSettings:
    """The student.

    kind          "pretrained": Qwen3-VL weights from `name_or_path`; "random": the architecture of Qwen3-VL-2B with
                  random weights and a byte tokenizer, for measurements without a network; "tiny": random weights by
                  `tiny`; both by the model's seed
    name_or_path  model hub name or local folder; used for "pretrained" alone
    image_size    pixels a side of the image the student sees; a multiple of 32 (224 -> 49 tokens a view)
    dtype         of the weights
    packed        sequences of different length stand one after the other; False: padded to the longest, by PyTorch's
                  attention whatever `ModelSettings.attention` says
    gradient_checkpointing  recompute activations in the backward pass
    """

    kind: str = "pretrained"
    name_or_path: str = "Qwen/Qwen3-VL-2B-Instruct"
    image_size: int = 224
    dtype: str = "float32"
    packed: bool = True
    gradient_checkpointing: bool = False
    tiny: TinyBackboneSettings = field(default_factory=TinyBackboneSettings)

    def __post_init__(self) -> None:
        require_one_of(self, "kind", ("pretrained", "random", "tiny"))
        require_one_of(self, "dtype", DTYPES)
        if self.kind == "pretrained" and not self.name_or_path:
            raise ValueError("BackboneSettings.name_or_path must name a model or a folder, got an empty string")
        if self.image_size < 32 or self.image_size % 32:
            raise ValueError(
                f"BackboneSettings.image_size must be a multiple of 32 (patch 16, merge 2), got {self.image_size}"
            )


@dataclass(frozen=True)
class PromptSettings:
    """Special tokens of the prompt.

    action_tokens_per_step  repeats of `<|action_i|>` for step i
    action_token_groups     distinct `<|action_i|>` added to the tokenizer; the reference adds horizon 7 x 4
    embodied_tokens         repeats of `<|embodied_action|>` in the robot prompt
    cache_size              distinct instructions whose tokens are kept
    """

    action_tokens_per_step: int = 8
    action_token_groups: int = 28
    embodied_tokens: int = 32
    cache_size: int = 4096

    def __post_init__(self) -> None:
        require_at_least(self, 1, "action_tokens_per_step", "action_token_groups", "embodied_tokens", "cache_size")


@dataclass(frozen=True)
class PredictorSettings:
    """The latent world model (reference: V-JEPA2-AC style; layer_norm_eps 1e-6 in LeRobot's port).

    gradient_checkpointing  recompute each block's activations in the backward pass
    views  V: latents of this many views stand side by side in one token; a missing view is duplicated
    init   "reference": truncated normal; "copy": the same architecture starts at "nothing changes", which a run of
           minutes could not learn (needs dim >= V x latent width)
    """

    depth: int = 12
    heads: int = 8
    dim: int = 1024
    mlp_ratio: float = 4.0
    layer_norm_eps: float = 1e-5
    gradient_checkpointing: bool = False
    views: int = 2
    init: str = "reference"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "depth", "heads", "dim", "views")
        require_one_of(self, "init", ("reference", "copy"))
        for name in ("mlp_ratio", "layer_norm_eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"PredictorSettings.{name} must be above 0, got {getattr(self, name)!r}")
        if self.dim % self.heads:
            raise ValueError(f"PredictorSettings.dim must be a multiple of heads={self.heads}, got {self.dim}")
        if self.dim // self.heads < 6:
            raise ValueError(
                f"PredictorSettings.dim must give each of the {self.heads} heads at least 6 channels (2 for each "
                f"rotary axis), got {self.dim}"
            )


@dataclass(frozen=True)
class ActionHeadSettings:
    """The flow-matching action head (reference: GR00T-N1 style DiT-B).

    heads, head_width  transformer width is heads x head_width
    hidden_size        width of its output and of the state and action MLPs
    max_positions      rows of the learned positions of the action tokens
    time_buckets       integer time steps the continuous time is cut into
    inference_steps    Euler steps from noise to actions
    repeats            noise draws a sample for the loss
    beta_a, beta_b, time_max  t = (time_max - Beta(a, b)) / time_max
    gradient_checkpointing    recompute each block's activations in the backward pass
    """

    layers: int = 16
    heads: int = 12
    head_width: int = 64
    dropout: float = 0.2
    hidden_size: int = 1024
    future_tokens: int = 32
    max_positions: int = 1024
    time_buckets: int = 1000
    inference_steps: int = 4
    repeats: int = 8
    beta_a: float = 1.5
    beta_b: float = 1.0
    time_max: float = 0.999
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        require_at_least(self, 1, "layers", "heads", "head_width", "hidden_size", "future_tokens", "max_positions")
        require_at_least(self, 1, "time_buckets", "inference_steps", "repeats")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"ActionHeadSettings.dropout must be in [0, 1), got {self.dropout!r}")
        if self.heads * self.head_width % 2:
            raise ValueError(f"ActionHeadSettings.head_width must give an even width, got {self.head_width}")
        for name in ("beta_a", "beta_b"):
            if not getattr(self, name) > 0:
                raise ValueError(f"ActionHeadSettings.{name} must be above 0, got {getattr(self, name)!r}")
        if not 0 < self.time_max <= 1:
            raise ValueError(f"ActionHeadSettings.time_max must be in (0, 1], got {self.time_max!r}")


@dataclass(frozen=True)
class LossSettings:
    """Weights of the losses.

    action                of the action loss on robot data; 0: robot data teaches as video does, its actions nothing
    world_model_on_robot  of the world-model loss beside the action loss on robot data
    world_model_on_video  of the world-model loss on human video
    rollout               within the world-model loss: of the predictor's error on its own predictions, beside that of
                          teacher forcing (V-JEPA 2-AC, arXiv 2506.09985, weighs both 1); 0: teacher forcing alone, as
                          the reference trains
    rollout_steps         how many steps are predicted from z_0 (V-JEPA 2-AC: 2)
    """

    action: float = 1.0
    world_model_on_robot: float = 0.1
    world_model_on_video: float = 1.0
    rollout: float = 0.0
    rollout_steps: int = 2

    def __post_init__(self) -> None:
        require_at_least(self, 0, "action", "world_model_on_robot", "world_model_on_video", "rollout")
        require_at_least(self, 2, "rollout_steps")  # the first step is the same in both


@dataclass(frozen=True)
class ModelSettings:
    """The whole model.

    attention    backend of student, predictor and action head: "auto", "sdpa" or "xformers"
    freeze       modules that are not trained, by name, as in `student.model.visual`
    range_floor  smallest range of a state or action channel used for scaling, in the source's units
    seed         of every randomly initialised weight
    """

    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    prompt: PromptSettings = field(default_factory=PromptSettings)
    predictor: PredictorSettings = field(default_factory=PredictorSettings)
    action_head: ActionHeadSettings = field(default_factory=ActionHeadSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    attention: str = "auto"
    freeze: tuple[str, ...] = ()
    range_floor: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        require_one_of(self, "attention", ATTENTION_BACKENDS)
        require_at_least(self, 0, "seed")
        if not self.range_floor > 0:
            raise ValueError(f"ModelSettings.range_floor must be above 0, got {self.range_floor!r}")


TINY_LATENT_WIDTH = 96
"""Width of the tiny target encoder's latents, which the tiny predictor starts by copying."""


def tiny_settings(seed: int = 0, views: int = 2) -> ModelSettings:
    """A model that trains on one CPU core within minutes; for tests and the demonstration."""
    return ModelSettings(
        backbone=BackboneSettings(kind="tiny", image_size=64),
        prompt=PromptSettings(embodied_tokens=8),
        predictor=PredictorSettings(depth=2, heads=4, dim=TINY_LATENT_WIDTH * views, views=views, init="copy"),
        action_head=ActionHeadSettings(
            layers=2, heads=2, head_width=32, dropout=0.0, hidden_size=64, future_tokens=4, max_positions=64, repeats=4
        ),
        attention="sdpa",
        seed=seed,
    )

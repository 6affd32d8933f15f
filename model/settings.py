"""Settings of the model, checked where they enter. Defaults are the numbers of the reference system.

The reference is VLA-JEPA (arXiv 2602.10098) and its released code; where paper and code disagree, the code's number is
used.
"""

from __future__ import annotations

from enum import StrEnum

from pipeline.format.enums import FloatDtype
from pipeline.format.settings import checked, setting

MOST_LAYERS, MOST_TOKENS = 1000, 10_000
"""A checkpoint of somebody else may not ask for more: what is counted in a loop takes time before it takes memory."""

CHECKPOINTING = "recompute each block's activations in the backward pass: less memory, more time"


class BackboneKind(StrEnum):
    """Where the student's weights come from: loaded, random at the size of Qwen3-VL-2B, or random at a tiny size."""

    PRETRAINED = "pretrained"
    RANDOM = "random"
    TINY = "tiny"


class AttentionBackend(StrEnum):
    """The attention kernel: AUTO takes xFormers where it has an operator for the device, else PyTorch's; a training on
    CUDA measures which of them is quicker, and takes that."""

    AUTO = "auto"
    SDPA = "sdpa"
    XFORMERS = "xformers"


class PredictorInit(StrEnum):
    """How the predictor starts: truncated normal, or as a copy of its input, which a run of minutes could not learn."""

    REFERENCE = "reference"
    COPY = "copy"


class HeadInput(StrEnum):
    """Which of the student's tokens the action head reads."""

    EMBODIED = "embodied"
    LATENT = "latent"
    BOTH = "both"


class SteeredBy(StrEnum):
    """What the predictor gets at the place of latent actions. All but the first are measures of what those are worth.

    LATENT_ACTIONS  the student's
    TRUE_MOTION     the robot's state and true actions, which no student can know: a ceiling
    CONSTANT        nothing: the floor
    WORDS           the words of the instruction, without the image
    SHUFFLED        in training the student's of another sample of the batch: a control, from which no student learns
                    what steers its own sample
    """

    LATENT_ACTIONS = "latent_actions"
    TRUE_MOTION = "true_motion"
    CONSTANT = "constant"
    WORDS = "words"
    SHUFFLED = "shuffled"


class Scaling(StrEnum):
    """Which range of a channel of actions and state becomes -1 to 1.

    MIN_MAX    from its smallest to its largest value in the train split
    QUANTILES  from its 1 % to its 99 % quantile; grippers, and channels whose values lie at both ends, as MIN_MAX
    """

    MIN_MAX = "min_max"
    QUANTILES = "quantiles"


@checked
class TinyBackboneSettings:
    """A Qwen3-VL of random weights, small enough for a CPU: section `model.backbone.tiny`."""

    layers: int = setting("decoder layers", default=2, at_least=2, at_most=MOST_LAYERS)
    width: int = setting("of the decoder; a multiple of 4 x heads", default=64)
    heads: int = setting("query heads, an even number; half as many key-value heads", default=2, at_least=2)
    vision_layers: int = setting("layers of the vision tower", default=2, at_least=1, at_most=MOST_LAYERS)
    vision_width: int = setting("of the vision tower; a multiple of 4 x vision_heads", default=32)
    vision_heads: int = setting("heads of the vision tower", default=2, at_least=1)

    def __post_init__(self) -> None:
        for width, heads in (("width", "heads"), ("vision_width", "vision_heads")):
            # Rotary halves over two or three axes need a head width that is a multiple of four.
            size, count = getattr(self, width), getattr(self, heads)
            if size < 4 * count or size % (4 * count):
                raise ValueError(f"{width} must be a multiple of 4 x {heads}={count}, got {size}")
        if self.heads % 2:
            raise ValueError(f"heads must be even, got {self.heads}")


@checked
class LoraSettings:
    """Low-rank adapters of the backbone, which is then not trained itself: section `model.backbone.lora`."""

    rank: int = setting(
        "of each adapter; 0: none, all weights are trained, as the reference does",
        default=0,
        at_least=0,
        at_most=4096,
    )
    alpha: float = setting("an adapter's product counts alpha / rank", default=32.0, above=0)
    targets: tuple[str, ...] = setting(
        "endings of the names of the linear layers that get one; as given: all of the decoder (of vision: attn.qkv, "
        "attn.proj, linear_fc1, linear_fc2)",
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        nonempty=True,
    )


@checked
class BackboneSettings:
    """The student: section `model.backbone`."""

    kind: BackboneKind = setting(
        "pretrained: Qwen3-VL weights from `name_or_path`; random: the architecture of Qwen3-VL-2B and a byte "
        "tokenizer, for measurements without a network; tiny: the sizes of `tiny`; both by the model's seed",
        default=BackboneKind.PRETRAINED,
    )
    name_or_path: str = setting(
        "model hub name or local folder; used for pretrained alone", default="Qwen/Qwen3-VL-2B-Instruct"
    )
    image_size: int = setting(
        "side of the image the student sees; a multiple of 32 (224: 49 tokens a view)",
        default=224,
        unit="pixels",
        at_least=32,
    )
    dtype: FloatDtype = setting("of the weights", default=FloatDtype.FLOAT32)
    gradient_checkpointing: bool = setting(CHECKPOINTING, default=False)
    tiny: TinyBackboneSettings = setting("sizes of kind tiny", default_factory=TinyBackboneSettings)
    lora: LoraSettings = setting("train low-rank adapters in its place", default_factory=LoraSettings)

    def __post_init__(self) -> None:
        if self.kind == BackboneKind.PRETRAINED and not self.name_or_path:
            raise ValueError("name_or_path must name a model or a folder, got an empty string")
        if self.image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32 (patch 16, merge 2), got {self.image_size}")


@checked
class PromptSettings:
    """Special tokens of the prompt: section `model.prompt`."""

    action_tokens_per_step: int = setting(
        "repeats of `<|action_i|>` for step i", default=8, at_least=1, at_most=MOST_TOKENS
    )
    action_token_groups: int = setting(
        "distinct `<|action_i|>` added to the tokenizer; the reference adds horizon 7 x 4",
        default=28,
        at_least=1,
        at_most=MOST_TOKENS,
    )
    embodied_tokens: int = setting(
        "repeats of `<|embodied_action|>` in the robot prompt", default=32, at_least=1, at_most=MOST_TOKENS
    )
    cache_size: int = setting("distinct instructions whose tokens are kept", default=4096, at_least=1)


@checked
class PredictorSettings:
    """The latent world model (V-JEPA2-AC style): section `model.predictor`."""

    depth: int = setting("blocks", default=12, at_least=1, at_most=MOST_LAYERS)
    heads: int = setting("attention heads", default=8, at_least=1)
    dim: int = setting("width; a multiple of heads, at least 6 channels a head", default=1024, at_least=1)
    mlp_ratio: float = setting("width of the MLP over `dim`", default=4.0, above=0)
    layer_norm_eps: float = setting("epsilon of LayerNorm (LeRobot's port: 1e-6)", default=1e-5, above=0)
    gradient_checkpointing: bool = setting(CHECKPOINTING, default=False)
    views: int = setting(
        "V: latents of so many views are joined in one token; a missing view is duplicated", default=2, at_least=1
    )
    init: PredictorInit = setting(
        'reference: truncated normal; copy: starts at "nothing changes" (needs dim >= views x latent width)',
        default=PredictorInit.REFERENCE,
    )
    steered_by: SteeredBy = setting(
        "latent_actions; or, to measure what they are worth, in their place: true_motion (the robot's state and true "
        "actions: a ceiling), constant (the floor), words (of the instruction, without the image), shuffled (in "
        "training the latent actions of another sample of the batch: a control of pretraining)",
        default=SteeredBy.LATENT_ACTIONS,
    )

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads={self.heads}, got {self.dim}")
        if self.dim // self.heads < 6:
            raise ValueError(
                f"dim must give each of the {self.heads} heads at least 6 channels (2 for each rotary axis), "
                f"got {self.dim}"
            )


@checked
class ActionHeadSettings:
    """The flow-matching action head (reference: GR00T-N1 style DiT-B): section `model.action_head`."""

    reads: HeadInput = setting(
        "of the student's tokens: embodied, as the reference; latent, the latent actions; or both",
        default=HeadInput.EMBODIED,
    )
    layers: int = setting("blocks", default=16, at_least=1, at_most=MOST_LAYERS)
    heads: int = setting("attention heads", default=12, at_least=1)
    head_width: int = setting(
        "channels of a head; the width is heads x head_width, an even number", default=64, at_least=1
    )
    dropout: float = setting("in attention and MLP", default=0.2, at_least=0, below=1)
    hidden_size: int = setting("width of the output and of the state and action MLPs", default=1024, at_least=1)
    future_tokens: int = setting(
        "learned tokens between state and actions", default=32, at_least=1, at_most=MOST_TOKENS
    )
    max_positions: int = setting("rows of the learned positions of the action tokens", default=1024, at_least=1)
    time_buckets: int = setting(
        "integer time steps that the continuous time is cut into", default=1000, at_least=1, at_most=10**6
    )
    inference_steps: int = setting("Euler steps from noise to actions", default=4, at_least=1, at_most=MOST_LAYERS)
    repeats: int = setting("noise draws a sample for the loss", default=8, at_least=1)
    beta_a: float = setting("of the time t = (time_max - Beta(beta_a, beta_b)) / time_max", default=1.5, above=0)
    beta_b: float = setting("see beta_a", default=1.0, above=0)
    time_max: float = setting("see beta_a", default=0.999, above=0, at_most=1)
    gradient_checkpointing: bool = setting(CHECKPOINTING, default=False)

    def __post_init__(self) -> None:
        if self.heads * self.head_width % 2:
            raise ValueError(f"head_width must give an even width, got {self.head_width}")


@checked
class LossSettings:
    """Weights of the losses: section `model.loss`."""

    action: float = setting(
        "of the action loss on robot data; 0: robot data trains the world model alone, as video does",
        default=1.0,
        at_least=0,
    )
    world_model_on_robot: float = setting(
        "of the world-model loss beside the action loss on robot data", default=0.1, at_least=0
    )
    world_model_on_video: float = setting("of the world-model loss on human video", default=1.0, at_least=0)
    other_targets: bool = setting(
        "in training, the future to predict is that of another sample of the batch: a control of pretraining, which "
        "sees the same pictures, words and latents, and in which nothing that the student sees tells what comes",
        default=False,
    )
    rollout: float = setting(
        "within the world-model loss: of the predictor's error on its own predictions, beside that of teacher forcing "
        "(V-JEPA 2-AC, arXiv 2506.09985, weighs both 1); 0: teacher forcing alone, as the reference trains",
        default=0.0,
        at_least=0,
    )
    rollout_steps: int = setting(  # the first step is the same in both
        "steps predicted from z_0 by the rollout (V-JEPA 2-AC: 2)", default=2, at_least=2
    )


@checked
class ModelSettings:
    """The whole model: section `model`."""

    backbone: BackboneSettings = setting("the student", default_factory=BackboneSettings)
    prompt: PromptSettings = setting("special tokens of the prompt", default_factory=PromptSettings)
    predictor: PredictorSettings = setting("the latent world model", default_factory=PredictorSettings)
    action_head: ActionHeadSettings = setting("the flow-matching action head", default_factory=ActionHeadSettings)
    loss: LossSettings = setting("weights of the losses", default_factory=LossSettings)
    attention: AttentionBackend = setting("kernel of student, predictor and action head", default=AttentionBackend.AUTO)
    student_cameras: tuple[str, ...] = setting(
        "cameras of robot builds that the student sees, by name, in the build's order; none named: all. Human video "
        "keeps its one camera",
        default=(),
    )
    world_model_cameras: tuple[str, ...] = setting(
        "cameras of robot builds whose latents the world model sees and predicts, likewise; at most `predictor.views`",
        default=(),
    )
    freeze: tuple[str, ...] = setting("modules that are not trained, by name, as in `student.model.visual`", default=())
    use_state: bool = setting(
        "the action head reads the robot's state; false: it reaches no part of the model, as in the reference's "
        "pretraining",
        default=True,
    )
    state_dropout: float = setting(
        "probability, in training, that a noise draw of a sample is without the state: zeros in place of its token",
        default=0.0,
        at_least=0,
        below=1,
    )
    scaling: Scaling = setting(
        "of actions and state to -1..1: min_max, as the reference; quantiles: from the 1 % to the 99 % quantile of a "
        "channel, actions beyond them clipped; grippers and channels of two values keep their whole range",
        default=Scaling.MIN_MAX,
    )
    range_floor: float = setting(
        "smallest range of a state or action channel used for scaling, in the source's units", default=1e-3, above=0
    )
    state_bound: float = setting(
        "largest size of a scaled channel of the state (-1 to 1 is the range of the train split); beyond it, as where "
        "a joint moves that never moved in the data, a value is clipped and counted",
        default=5.0,
        at_least=1,
        at_most=1e6,
    )
    seed: int = setting("of every randomly initialised weight", default=0, at_least=0, at_most=2**63 - 1)

    def __post_init__(self) -> None:
        if self.state_dropout and not self.use_state:
            raise ValueError(f"state_dropout={self.state_dropout:g} needs use_state=true: no state is read otherwise")


TINY_LATENT_WIDTH = 96
"""Width of the tiny target encoder's latents, which the tiny predictor starts by copying."""


def tiny_settings(seed: int = 0, views: int = 2) -> ModelSettings:
    """A model that trains on one CPU core within minutes; for tests and the demonstration."""
    return ModelSettings(
        backbone=BackboneSettings(kind=BackboneKind.TINY, image_size=64),
        prompt=PromptSettings(embodied_tokens=8),
        predictor=PredictorSettings(
            depth=2, heads=4, dim=TINY_LATENT_WIDTH * views, views=views, init=PredictorInit.COPY
        ),
        action_head=ActionHeadSettings(
            layers=2, heads=2, head_width=32, dropout=0.0, hidden_size=64, future_tokens=4, max_positions=64, repeats=4
        ),
        attention=AttentionBackend.SDPA,
        seed=seed,
    )

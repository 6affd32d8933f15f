"""`vlajepa plan`: what a build will hold and cost, and the frozen tasks that make it."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.common.progress import phase, progress_bar
from jobs.common.text import size_text, two_columns
from jobs.datasets.manifests import load_manifests
from jobs.preprocess.encoder_costs import describe_encoder_costs
from jobs.preprocess.prediction import describe_prediction, stored_prediction
from jobs.preprocess.settings import BuildConfig
from pipeline.errors import RunError, SettingsError
from pipeline.format.build_settings import BuildSettings
from pipeline.format.enums import LatentDtype
from pipeline.format.file_names import PLAN_FILE
from pipeline.format.libraries import library_versions
from pipeline.format.schema import SCHEMA_VERSION, SPLITS
from pipeline.format.settings import deciding
from pipeline.inspection.lookahead import find_lookahead
from pipeline.planning.cost import targets_bytes
from pipeline.planning.episode_filter import STAGE as FILTER
from pipeline.planning.plan import Plan, check_same_plan, make_plan, read_plan, write_plan
from pipeline.planning.prediction import Prediction
from pipeline.sources.base import Source, SourceIndex
from pipeline.sources.files import hash_files
from pipeline.storage.store import Store, open_store


@dataclass(frozen=True)
class Preparation:
    """What `preprocess` needs besides the cluster. found: the folder held the plan already."""

    source: Source
    plan: Plan
    store: Store
    found: bool
    prediction: Prediction


def run(config: BuildConfig) -> Preparation:
    started = time.monotonic()
    preparation = prepare(config, again=True)
    print(describe(preparation.plan, config.out, preparation.prediction))
    print(f"with other encoders:\n{two_columns(describe_encoder_costs(preparation.plan))}")
    print(f"planned in {time.monotonic() - started:.1f} s; next: vlajepa preprocess with the same settings")
    return preparation


def prepare(config: BuildConfig, again: bool = False) -> Preparation:
    """The stored plan of `config.out`, or a new one.

    Args:
        again: read the source and measure it even if there is a plan; both plans must agree.

    Raises:
        BuildError: the folder holds another plan.
    """
    store = open_store(config.out)
    with phase(f"listing {store.where}"):
        found = PLAN_FILE in store.sizes()
    index = None if found and not again else read_index(config)  # first: a wrong root is refused at once
    settings = build_settings(config)
    if index is None:
        with phase(f"reading the plan in {store.where}"):
            plan = read_plan(store)
    else:
        plan = new_plan(config, settings, index)
    with phase(f"comparing the plan with that in {store.where}" if found else f"writing the plan to {store.where}"):
        if found:
            check_same_plan(read_plan(store) if again else plan, settings.content, store.where, plan.tasks)
        else:
            write_plan(plan, store)
    with phase("measuring a few episodes for a prediction"):
        prediction = stored_prediction(plan, config.source.reader, config.hardware, store, again)
    return Preparation(config.source.reader, plan, store, found, prediction)


def build_settings(config: BuildConfig) -> BuildSettings:
    """Every setting that changes bytes: those declared so, and the files and libraries that they refer to."""
    with phase(f"loading the encoder {config.encoder.name_or_path or config.encoder.kind}"):
        from pipeline.encoder.encoder import Encoder  # PyTorch and transformers take seconds, and no refusal needs them

        encoder = Encoder(config.encoder, "cpu")
    content = {
        **deciding(config),
        "schema_version": SCHEMA_VERSION,
        "source": config.source.content(),
        "dataset": _dataset_facts(config),
        "leave_out": None if config.source.leave_out is None else config.source.leave_out.content(),
        "encoder": encoder.identity(config.cluster.encoder_device),
        "versions": library_versions(),
    }
    return BuildSettings.read(json.loads(json.dumps(content)))


def new_plan(config: BuildConfig, settings: BuildSettings, index: SourceIndex | None = None) -> Plan:
    """Read the source's metadata, unless some of it is given, and pack its episodes into shard tasks.

    Raises:
        RunError: an input shows later frames in a sample of the episodes, unless `accept_lookahead` is set.
    """
    index = read_index(config) if index is None else index
    _refuse_lookahead(config, index)
    with phase(f"packing {len(index.refs):,} episodes into shards"):
        return make_plan(config.source.reader, index, settings)


def _refuse_lookahead(config: BuildConfig, index: SourceIndex) -> None:
    if config.accept_lookahead:
        return
    with phase("looking for later frames in the inputs of a sample of episodes"):
        found = find_lookahead(config.source.reader, [ref for ref in index.refs if ref.split in config.splits])
    if found.findings:
        lines = "".join(f"\n  {finding.rule}: {finding.detail}" for finding in found.findings)
        raise RunError(
            f"{index.name}: inputs show later frames, in a sample of {found.episodes} episodes ({found.films} with "
            f"their cameras):{lines}\ntake them out of source.state or source.cameras, mend the data, or set "
            "accept_lookahead=true if you know that it is not so"
        )


def describe(plan: Plan, out: Path | str, prediction: Prediction | None = None) -> str:
    """What a build will hold, and what it is predicted to take, as a small table."""
    cost, sizes = plan.estimate, plan.sizes
    about = "" if cost.exact else "about "
    rows = [
        ("fingerprint", plan.fingerprint[:16]),
        ("episodes", f"{cost.episodes:,}: {_by_split(plan)} {_left_out(plan)}".rstrip()),
        ("views", ", ".join(plan.views)),
        ("samples", f"{about}{cost.windows:,}"),
        ("shards", f"{cost.shards:,}"),
        ("inputs on disk", f"about {size_text(cost.input_bytes)}"),
        ("targets on disk", f"{about}{size_text(cost.target_bytes)}"),
        ("targets a sample", about + _per_sample(plan)),
        (
            "target shape",
            f"{sizes.steps}+1 steps x {sizes.views} views x {sizes.tokens} tokens x {sizes.width} "
            f"{plan.settings.latents.dtype}",
        ),
        ("encoder", f"{about}{cost.flops:.3g} FLOPs"),
        *([] if prediction is None else describe_prediction(prediction)),
    ]
    note = (
        ""
        if cost.exact
        else "\nlengths of some episodes are unknown until their files are opened: estimated from a sample"
    )
    warnings = "".join(f"\nWARNING: {text}" for text in _warnings(plan))
    return f"{plan.name} -> {out}\n{two_columns(rows)}{note}{warnings}"


def _by_split(plan: Plan) -> str:
    found = Counter(ref.split for task in plan.tasks for group in task.groups for ref in group)
    return ", ".join(f"{split} {found[split]:,}" for split in plan.settings.splits)


def _per_sample(plan: Plan) -> str:
    """Bytes of a sample's targets for every way to store them; the settings choose one."""
    cost = plan.estimate
    shown = []
    for mode, tubelets in (("prefix or clip", None), ("tubelet", cost.tubelets)):
        sizes = [targets_bytes(plan.sizes, dtype, cost.windows, tubelets) / cost.windows for dtype in LatentDtype]
        each = ", ".join(f"{size_text(size)} {dtype}" for size, dtype in zip(sizes, LatentDtype, strict=True))
        shown.append(f"{mode} {each}")
    return "; ".join(shown)


def _left_out(plan: Plan) -> str:
    """How many episodes of the source are no part of it."""
    return f"({len(plan.left_out):,} more left out, see plan.json)" if plan.left_out else ""


def _warnings(plan: Plan) -> list[str]:
    """Warnings about splits and episodes."""
    found = []
    planned = {task.split for task in plan.tasks}
    for split in plan.settings.splits:
        if split not in planned:
            found.append(
                f"no episode is in split {split}; without official splits raise source.val_share, such as to 0.2, and "
                "delete this plan or choose another out="
            )
    bad = [entry for entry in plan.left_out if entry.stage != FILTER]
    if bad:
        share = len(bad) / plan.num_episodes
        listed = "; ".join(f"{entry.episode}: {entry.reason}" for entry in bad[:3])
        found.append(f"{share:.1%} of the episodes are left out already ({listed}); see plan.json and max_bad_share")
    return found


def _dataset_facts(config: BuildConfig) -> dict[str, str] | None:
    """The manifest's facts about the dataset; None for data without one."""
    name = config.source.manifest
    if name is None:
        return None
    manifests = load_manifests()
    if name not in manifests:
        raise SettingsError(f"source.manifest must be one of {', '.join(manifests)}, got {name!r}")
    return manifests[name].facts()


def read_index(config: BuildConfig) -> SourceIndex:
    """The source's index without the episodes of `source.leave_out`, with the hashes of its files if `hash_raw` is
    set."""
    source = config.source.reader
    with phase(f"reading the metadata of {source.root}"):
        index = source.index()
    if config.source.leave_out is not None:
        index = config.source.leave_out.apply(index)
    index = _limited(index, config.limit)
    if not config.hash_raw:
        return index
    files = {path: size for ref in index.refs if ref.split in config.splits for path, size in ref.files}
    with progress_bar(total=sum(files.values()), unit="B", unit_scale=True, desc=f"hash {index.name}") as bar:
        return hash_files(source.root, index, config.splits, bar.update)


def _limited(index: SourceIndex, limit: int | None) -> SourceIndex:
    """The first `limit` episodes of each split, and the left_out found among them."""
    if limit is None:
        return index
    refs = [ref for split in SPLITS for ref in [r for r in index.refs if r.split == split][:limit]]
    cut = {ref.split: ref.id for ref in index.refs} != {ref.split: ref.id for ref in refs}
    last = {ref.split: ref.id for ref in refs}
    left_out = [f for f in index.left_out if not cut or f.stage == FILTER or f.episode <= last.get(f.split, "")]
    return replace(index, refs=tuple(refs), left_out=tuple(left_out))

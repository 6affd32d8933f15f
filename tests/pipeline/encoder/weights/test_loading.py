"""Weights in every kind of file that is taken, and each way in which a file can be not quite the encoder's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import VJEPA2Model

from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_weights import EncoderModel
from pipeline.encoder.vjepa2_1 import VJEPA21Model
from pipeline.encoder.weights import loading, released
from pipeline.encoder.weights.released import ReleasedEncoder
from pipeline.errors import SettingsError
from pipeline.format.build_settings import EncoderSettings
from pipeline.format.enums import Release
from tests.pipeline.encoder.test_encoder import TINY, make_block
from tests.pipeline.encoder.tiny_vjepa2_1 import tiny_vjepa2_1

V2, V21 = Release.VITG_384, Release.VJEPA2_1_BASE
"""Whose sizes are tiny here."""

Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def tiny_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {
        V2: ReleasedEncoder("tiny.pt", "target_encoder", "VJEPA2Model", 64, 96, 2, 4, 4.0),
        V21: ReleasedEncoder("tiny_1.pt", "ema_encoder", "VJEPA21Model", 64, 96, 2, 4, 4.0),
    }
    for module in (loading, released):
        monkeypatch.setattr(module, "RELEASED", tiny)


def model_of(release: Release) -> EncoderModel:
    return tiny_vjepa2_1() if release == V21 else Encoder(TINY, "cpu").model


def by_meta(model: EncoderModel) -> Tensors:
    """The tensors of an encoder under Meta's names, written out here anew."""
    state = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    if isinstance(model, VJEPA21Model):
        return state
    found = {"norm.weight": state.pop("layernorm.weight"), "norm.bias": state.pop("layernorm.bias")}
    for kind in ("weight", "bias"):
        found[f"patch_embed.proj.{kind}"] = state.pop(f"embeddings.patch_embeddings.proj.{kind}")
        for i in range(model.config.num_hidden_layers):
            parts = [state.pop(f"layer.{i}.attention.{part}.{kind}") for part in ("query", "key", "value")]
            found[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat(parts)
            found[f"blocks.{i}.attn.proj.{kind}"] = state.pop(f"layer.{i}.attention.proj.{kind}")
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                found[f"blocks.{i}.{part}.{kind}"] = state.pop(f"layer.{i}.{part}.{kind}")
    assert not state
    return found


def checkpoint(folder: Path, release: Release, tensors: Tensors, prefix: str = "module.backbone.") -> Path:
    """As Meta's files: other state dicts beside the encoder's, one of them another encoder's."""
    wrapped = {prefix + name: tensor for name, tensor in tensors.items()}
    student = {name: torch.zeros_like(tensor) for name, tensor in wrapped.items()}
    section = "ema_encoder" if release == V21 else "target_encoder"
    content = {
        "encoder": student,
        section: wrapped,
        "predictor": {"x": torch.ones(1)},
        "opt": {"state": {}},
        "epoch": 3,
    }
    torch.save(content, folder / "weights.pt")
    return folder / "weights.pt"


def load(path: Path, release: Release) -> Encoder:
    return Encoder(EncoderSettings(name_or_path=str(path), release=release, resize="squash"), "cpu")


def as_pt(folder: Path, release: Release) -> Path:
    return checkpoint(folder, release, by_meta(model_of(release)))


def as_bare_pt(folder: Path, release: Release) -> Path:
    torch.save(by_meta(model_of(release)), folder / "weights.pth")
    return folder / "weights.pth"


def as_safetensors(folder: Path, release: Release) -> Path:
    save_file({k: v.contiguous() for k, v in by_meta(model_of(release)).items()}, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def as_folder(folder: Path, release: Release) -> Path:
    model_of(release).save_pretrained(folder)
    return folder


def as_shards(folder: Path, release: Release) -> Path:
    model_of(release).save_pretrained(folder, max_shard_size="200KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


WAYS = (as_pt, as_bare_pt, as_safetensors, as_folder, as_shards)


@pytest.mark.parametrize("release", [V2, V21])
@pytest.mark.parametrize("save", WAYS)
def test_the_same_weights_give_the_same_latents(
    tmp_path: Path, save: Callable[[Path, Release], Path], release: Release
) -> None:
    found = load(save(tmp_path, release), release)
    (tmp_path / "folder").mkdir()
    expected = load(as_folder(tmp_path / "folder", release), Release.ANY)
    assert found.identity()["weights_sha256"] == expected.identity()["weights_sha256"]
    block = make_block()
    assert np.array_equal(found.encode(block)[0], expected.encode(block)[0])
    if release == V21:  # the tiny V-JEPA 2 differs from its release in what latents do not depend on
        assert found.identity() == expected.identity()
    if release == V2:
        assert np.array_equal(found.encode(block)[0], Encoder(TINY, "cpu").encode(block)[0])


def test_weights_of_half_precision_are_taken_in_float32(tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in by_meta(model_of(V21)).items()}
    model = load(checkpoint(tmp_path, V21, half), V21).model
    assert {tensor.dtype for tensor in model.encoder.state_dict().values()} == {torch.float32}


def drop_last_block(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith("blocks.1.")]:
        del tensors[name]


EDITS: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "missing": (lambda t: t.pop("blocks.1.attn.qkv.bias"), r"lacks blocks\.1\.attn\.qkv\.bias \[288\]"),
    "patches missing": (lambda t: t.pop("patch_embed.proj.weight"), r"lacks patch_embed\.proj\.weight"),
    "a block less": (drop_last_block, r"lacks blocks\.1\..* and 9 more"),
    "a block more": (
        lambda t: t.update({"blocks.2.norm1.bias": torch.ones(96)}),
        r"holds blocks\.2\.norm1\.bias, which",
    ),
    "positions": (lambda t: t.update(pos_embed=torch.ones(1, 16, 96)), "holds pos_embed, which the encoder does not"),
    "register": (lambda t: t.update(cls_token=torch.ones(1, 1, 96)), "holds cls_token"),
    "narrow": (lambda t: t.update({"blocks.0.norm1.bias": torch.ones(95)}), r"holds blocks\.0\.norm1\.bias \[95\]"),
    "flat": (lambda t: t.update({"blocks.0.norm1.bias": torch.ones(1, 96)}), r"norm1\.bias \[1, 96\]"),
    "whole numbers": (
        lambda t: t.update({"blocks.0.norm1.bias": torch.ones(96, dtype=torch.int64)}),
        "torch.int64, the encoder has .* of float",
    ),
}


@pytest.mark.parametrize("release", [V2, V21])
@pytest.mark.parametrize("edit", EDITS)
def test_a_file_that_is_not_quite_the_encoders_is_refused(tmp_path: Path, edit: str, release: Release) -> None:
    change, message = EDITS[edit]
    tensors = by_meta(model_of(release))
    change(tensors)
    with pytest.raises(SettingsError, match=message):
        load(checkpoint(tmp_path, release, tensors), release)


def test_one_version_does_not_pass_for_the_other(tmp_path: Path) -> None:
    for release, other, lacks, holds in ((V2, V21, "norm", "img_mod_embed"), (V21, V2, "img_mod_embed", "norm")):
        tensors = by_meta(model_of(other))
        with pytest.raises(SettingsError, match=f"lacks {lacks}.*; holds {holds}"):
            load(checkpoint(tmp_path, release, tensors), release)


@pytest.mark.parametrize("name", ["encoder.layer.1.mlp.fc2.bias", "predictor.layernorm.bias"])
def test_a_folder_of_transformers_with_one_key_missing_is_refused(tmp_path: Path, name: str) -> None:
    as_folder(tmp_path, V2)
    tensors = load_file(tmp_path / "model.safetensors")
    whole = dict(tensors)
    del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(SettingsError, match=f"lacks {name.removeprefix('encoder.')}"):
        load(tmp_path, Release.ANY)
    save_file({k: v for k, v in whole.items() if not k.startswith("predictor.")}, tmp_path / "model.safetensors")
    assert isinstance(load(tmp_path, Release.ANY).model, VJEPA2Model)  # the predictor is not needed, but not halved


def test_a_foreign_tensor_in_a_folder_is_named(tmp_path: Path) -> None:
    as_folder(tmp_path, V2)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in ("classifier.weight", "predictor.more.bias"):
        save_file(tensors | {name: torch.ones(3)}, tmp_path / "model.safetensors")
        with pytest.raises(SettingsError, match=f"holds {name}"):
            load(tmp_path, Release.ANY)


def edit_index(folder: Path, edit: Callable[[dict[str, str]], object]) -> None:
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    edit(content["weight_map"])
    path.write_text(json.dumps(content))


def test_an_index_and_its_files_must_agree(tmp_path: Path) -> None:
    as_shards(tmp_path, V2)
    path = tmp_path / "model.safetensors.index.json"
    original = path.read_text()
    name = "encoder.layer.0.mlp.fc1.weight"
    edit_index(tmp_path, lambda placed: placed.pop(name))
    with pytest.raises(SettingsError, match=f"holds {name}, which the index does not place there"):
        load(tmp_path, Release.ANY)
    path.write_text(original)
    edit_index(tmp_path, lambda placed: placed.update({"encoder.more": placed[name]}))
    with pytest.raises(SettingsError, match=r"lacks encoder\.more, which the index places there"):
        load(tmp_path, Release.ANY)
    path.write_text(original)
    edit_index(tmp_path, lambda placed: placed.update({name: "../elsewhere.safetensors"}))
    with pytest.raises(SettingsError, match="not a file of its own folder"):
        load(tmp_path, Release.ANY)
    path.write_text(original)
    next(tmp_path.glob("model-00002*")).unlink()
    with pytest.raises(SettingsError, match="model-00002"):
        load(tmp_path, Release.ANY)


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    tensors = by_meta(model_of(V21))
    path = checkpoint(tmp_path, V21, tensors | {"module.backbone.norms_block.0.bias": torch.ones(96)}, prefix="")
    with pytest.raises(SettingsError, match=r"two tensors are named norms_block\.0\.bias"):
        load(path, V21)


def test_a_checkpoint_without_the_encoders_section_names_what_it_has(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, V2, by_meta(model_of(V21)))
    with pytest.raises(SettingsError, match="no tensors under 'ema_encoder'; its keys are encoder, epoch, opt, pred"):
        load(path, V21)


class Code:
    """What a pickle may run."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (pytest.fail, ("code of the file was run",))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"ema_encoder": by_meta(model_of(V21)), "more": Code()}, tmp_path / "weights.pt")
    with pytest.raises(SettingsError, match="holds no weights that can be read"):
        load(tmp_path / "weights.pt", V21)


def test_a_file_needs_a_release_and_a_release_the_folders_sizes(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no config\.json to tell which encoder it is; choose one by encoder=NAME"):
        load(as_pt(tmp_path, V21), Release.ANY)
    config = json.loads((as_folder(tmp_path, V2) / "config.json").read_text())
    for name, value, release in (("hidden_size", 192, V2), ("crop_size", 32, V2), ("model_type", "vjepa2_1", V2)):
        (tmp_path / "config.json").write_text(json.dumps(config | {name: value}))
        with pytest.raises(SettingsError, match=rf"config\.json: {name} is {value}, that of encoder={release} is"):
            load(tmp_path, release)
    for name, value in (("hidden_size", "wide"), ("num_attention_heads", 5), ("hidden_act", "none")):
        (tmp_path / "config.json").write_text(json.dumps(config | {name: value}))
        with pytest.raises(SettingsError, match=r"config\.json does not describe an encoder"):
            load(tmp_path, Release.ANY)
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    with pytest.raises(SettingsError, match="model_type is 'vit', expected one of vjepa2, vjepa2_1"):
        load(tmp_path, Release.ANY)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "fetch Meta's file tiny_1.pt"),
        ("weights.pt", "there is no such file or folder"),
        ("text.pt", "holds no weights that can be read"),
        ("text.txt", "a file of weights ends in .safetensors, .pt"),
        ("empty", "holds neither model.safetensors nor model.safetensors.index.json"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for text in ("text.pt", "text.txt"):
        (tmp_path / text).write_text("no weights")
    with pytest.raises(SettingsError, match=message):
        Encoder(EncoderSettings(name_or_path=name, release=V21), "cpu")

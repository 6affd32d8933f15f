"""`vlajepa push`: a build or a checkpoint to the Hugging Face Hub or to a bucket, with its card."""

from __future__ import annotations

from dataclasses import replace

from jobs.common.escaped import escaped_errors
from jobs.sharing.build_contents import build_contents
from jobs.sharing.checkpoint_contents import checkpoint_contents
from jobs.sharing.contents import Contents, Pushed
from jobs.sharing.hub_address import SCHEME, read_hub_address
from jobs.sharing.settings import PushConfig
from pipeline.errors import SettingsError
from pipeline.format.text.printable import shown
from pipeline.storage.credentials import refuse_credentials

_BUCKETS = ("s3://", "s3a://", "gs://", "gcs://")


def run(settings: PushConfig) -> Pushed:
    """What was sent and what was there."""
    refuse_credentials(settings.out, "out")
    settings = replace(settings, what=settings.what.expanduser())
    if settings.out.startswith(SCHEME):
        pushed = _to_hub(settings)
    elif settings.out.lower().startswith(_BUCKETS):
        from jobs.sharing.bucket import push_to_bucket

        pushed = push_to_bucket(_contents(settings, settings.out.rstrip("/")), settings.out)
    else:
        raise SettingsError(
            f"out={shown(settings.out)} is neither hf://datasets/OWNER/NAME or hf://OWNER/NAME nor a bucket's s3:// or "
            "gs://; a folder is copied with cp"
        )
    print(f"pushed {settings.what} to {pushed.where}: {len(pushed.sent):,} files sent, {len(pushed.kept):,} were there")
    return pushed


def _to_hub(settings: PushConfig) -> Pushed:
    address = read_hub_address(settings.out)
    contents = _contents(settings, address.text)
    if contents.kind != address.kind:
        right = "hf://datasets/OWNER/NAME" if contents.kind == "dataset" else "hf://OWNER/NAME"
        what = "a build" if contents.kind == "dataset" else "a checkpoint"
        raise SettingsError(f"{settings.what} is {what}, which goes to {right}; out={settings.out} is of another kind")
    from jobs.sharing.hub import push_to_hub  # imports the Hub's client

    return push_to_hub(contents, address, settings.private)


def _contents(settings: PushConfig, address: str) -> Contents:
    with escaped_errors():
        if (settings.what / "build.json").is_file():
            return build_contents(settings, address)
        return checkpoint_contents(settings, address)

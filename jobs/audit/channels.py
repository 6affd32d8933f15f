"""The names of a build's channels, from the manifest that it was made by."""

from __future__ import annotations

from jobs.datasets.manifests import load_manifests
from pipeline.audit.build import ClaimedBuild
from pipeline.audit.lookahead.channel_names import ChannelNames
from pipeline.errors import SettingsError


def channel_names(build: ClaimedBuild) -> ChannelNames:
    """Names for messages; none where the manifest is not here, is another one by its hash, or has another number."""
    dataset = build.settings.get("dataset")
    try:
        manifest = load_manifests().get(str(dataset.get("name"))) if isinstance(dataset, dict) else None
    except SettingsError:
        return ChannelNames()
    if manifest is None or not isinstance(dataset, dict) or dataset.get("sha256") != manifest.sha256:
        return ChannelNames()
    state, action = (tuple(manifest.channel_names(kind)) for kind in ("state", "action"))
    return ChannelNames(
        state if len(state) == build.sizes.state else (), action if len(action) == build.sizes.action else ()
    )

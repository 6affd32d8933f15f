"""The libraries whose version may change a byte of a shard: part of the fingerprint, and compared by the audit."""

from __future__ import annotations

from importlib.metadata import version

PACKAGES = ("av", "decord", "numpy", "pillow", "pyarrow", "torch", "transformers")

BUNDLED = ("ffmpeg", "libjpeg")
"""Libraries inside av and Pillow, which a package's own version does not name."""


def library_versions() -> dict[str, str]:
    """The installed version of every library, by name.

    Raises:
        importlib.metadata.PackageNotFoundError: a package is not installed.
    """
    import av  # not at the top: training reads the format without it
    from PIL import features

    found = {name: version(name) for name in PACKAGES}
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return dict(sorted({**found, "ffmpeg": str(av.ffmpeg_version_info), "libjpeg": str(jpeg)}.items()))

"""Before a training on several nodes: whether each reaches the run's folder and the builds that the driver opened."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipeline.errors import BuildError
from pipeline.storage.store import open_store


def missing_builds(builds: Sequence[tuple[str, str]]) -> str:
    """What keeps this process from the builds; "" if nothing does.

    Args:
        builds: folder or URL of each, and the SHA-256 of the build.json that the driver opened.
    """
    for address, sha256 in builds:
        try:
            content = open_store(address).read("build.json")
        except FileNotFoundError:
            return f"there is no build at {address}; mount it under the same path on every node"
        except (BuildError, OSError) as error:
            return f"the build is out of reach: {error}"
        if hashlib.sha256(content).hexdigest() != sha256:
            return f"{address} is another build than the driver's; all nodes must see one folder"
    return ""

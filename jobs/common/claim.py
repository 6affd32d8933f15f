"""One folder, one experiment: what decides its content is written down by the first run and compared by later ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import BuildError
from pipeline.format.json.strict_json import parse
from pipeline.format.text.differences import first_difference
from pipeline.format.text.printable import printable
from pipeline.storage.atomic import write_atomic


def claim(path: Path, content: Mapping[str, Any], what: str) -> None:
    """Write the content down, or compare it with that of an earlier run. Raises BuildError if the folder holds another
    `what`."""
    plain = json.loads(json.dumps(content))
    if not path.exists():
        write_atomic(path, (json.dumps(plain, indent=2) + "\n").encode())
        return
    try:
        found = parse(path.read_bytes())
    except ValueError as error:
        raise BuildError(f"{path} cannot be read: {printable(error)}; choose another out=") from error
    if difference := first_difference(found, plain):
        raise BuildError(f"{path.parent} holds another {what}: {difference}; choose another out=")

"""What must hold in a finished image: its user, its health command, its bytecode, and a build that is audited clean."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tests.image.builder import Builder, ImageError

COMMANDS = (
    "vlajepa sample-data out=/tmp/data clips=8 episodes=4 size=64",
    "vlajepa preprocess source=ssv2 source.root=/tmp/data/ssv2 encoder=tiny inputs.image_size=64 out=/tmp/build "
    "cluster.encoders=1",
    "vlajepa audit /tmp/build level=source root=/tmp/data/ssv2",
)
"""Raw data to an audited build, as the image's user."""

UNWANTED = ("pytest", "mypy", "ruff", "hypothesis", "sphinx", "moto", "tests")
"""Modules of those who change the project."""

_ABSENT = """
import importlib.util, sys
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])
"""

_STALE = """
import importlib.util, os, sys, sysconfig
import jobs.cli, jobs.preprocess.preprocess, pipeline.audit.levels, torch, ray
home = sysconfig.get_path("purelib")
for module in list(sys.modules.values()):
    path = getattr(module, "__file__", None) or ""
    if path.endswith(".py") and path.startswith(home):
        try:
            with open(importlib.util.cache_from_source(path), "rb") as file:
                head = file.read(16)
        except OSError:
            print(path)
            continue
        flags, seconds = (int.from_bytes(head[i : i + 4], "little") for i in (4, 8))
        if not flags and seconds != int(os.stat(path).st_mtime):
            print(path)
"""
"""Prints imported modules whose bytecode is missing or older than they are: each process would compile them again."""

_SERVER = """
import http.server
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Health)
server.timeout = 60
print(server.server_port, flush=True)
server.handle_request()
"""
"""Answers one question as `vlajepa serve` does, and prints its port first."""


@dataclass(frozen=True)
class Report:
    """bytes: of the files of the image, about. output: what each command of `COMMANDS` printed."""

    bytes: int
    output: tuple[str, ...]


def check(builder: Builder, image: str) -> Report:
    """Look at an image and use it.

    Raises:
        ImageError: something does not hold.
    """
    container = builder.start(image)
    require(builder.run(container, "id", "-u") == "1000", "the image's user is not 1000")
    unwanted = builder.run(container, "python", "-c", _ABSENT, *UNWANTED)
    require(not unwanted, f"the image holds what only developers need: {unwanted}")
    stale = builder.run(container, "python", "-c", _STALE)
    require(not stale, f"modules without current bytecode: {stale[:500]}")
    _require_health(builder, image, container)
    sizes = builder.run(container, "sh", "-c", "du -sbx /etc /home /opt /usr /var 2>/dev/null | cut -f1").split()
    output = tuple(builder.run(container, *shlex.split(command)) for command in COMMANDS)
    builder.buildah("rm", container)
    return Report(sum(map(int, sizes)), output)


def _require_health(builder: Builder, image: str, container: str) -> None:
    """Its health command asks a server where one runs, and nothing where another command does."""
    kind, command = builder.settings(image)["Healthcheck"]["Test"]
    require(kind == "CMD-SHELL" and "/proc/1/cmdline" in command, f"the health command is {kind} {command!r}")

    def healthy(words: str, before: str = "") -> bool:
        """Of a container whose first process has these words."""
        asked = command.replace("/proc/1/cmdline", "/tmp/cmdline")
        script = f"printf '%s\\0' {words} >/tmp/cmdline; {before}\n{asked}"
        try:
            builder.run(container, "sh", "-c", script)
        except ImageError:
            return False
        return True

    server = f"python -c {shlex.quote(_SERVER)} >/tmp/port 2>&1 & until [ -s /tmp/port ]; do sleep 0.1; done"
    require(healthy("vlajepa preprocess serve=1"), "the health command complains of a command without a server")
    require(
        healthy("vlajepa serve", f"{server}; export HEALTH_PORT=$(cat /tmp/port)"), "a server that answers is unwell"
    )
    require(not healthy("vlajepa serve", "export HEALTH_PORT=1"), "a server that does not answer is well")


def require(held: bool, otherwise: str) -> None:
    """Raises ImageError with `otherwise`."""
    if not held:
        raise ImageError(otherwise)

"""A build folder on S3, Google Cloud Storage, or wherever else fsspec writes.

Object stores have no rename, and need none here: an object appears whole when its upload ends, one that was cut off is
never seen, and one that is there counts only once a record lists it. What is written passes through a local temporary
file (TMPDIR), what a moment's trouble of the network spoils is tried again, and sizes are compared afterwards.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import CorruptError
from pipeline.remote import Retry, attempt, file_system

_THREADS = 16


@dataclass(frozen=True)
class RemoteStore:
    """See `store.Store`. Where the store is, and who asks, comes from the environment: see `remote.py`."""

    url: str
    retry: Retry = field(default_factory=Retry)

    @property
    def where(self) -> str:
        return self.url

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="vlajepa-") as folder:
            path = Path(folder) / Path(name).name
            yield path
            self._upload(path, name)

    def write(self, name: str, data: bytes) -> None:
        system, path = self._system(name)
        self._try(name, lambda: system.pipe_file(path, data))

    def create(self, name: str, data: bytes) -> bool:
        system, path = self._system(name)

        def create() -> bool:
            try:
                system.pipe_file(path, data, mode="create")
            except FileExistsError:
                return bool(system.cat_file(path) == data)  # by an earlier attempt whose answer was lost
            return True

        return self._try(name, create)

    def read(self, name: str) -> bytes:
        system, path = self._system(name)
        try:
            content: bytes = self._try(name, lambda: system.cat_file(path))
        except CorruptError as error:
            raise FileNotFoundError(str(error)) from error
        return content

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="vlajepa-") as folder:
            path = Path(folder) / Path(name).name
            self._download(name, path)
            yield path

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        names = [other for other in self.sizes() if other.startswith(f"{name}/")]
        with tempfile.TemporaryDirectory(prefix="vlajepa-") as folder, ThreadPoolExecutor(_THREADS) as pool:
            targets = [Path(folder) / other.removeprefix(f"{name}/") for other in names]
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
            list(pool.map(self._download, names, targets))
            yield Path(folder)

    def sizes(self) -> dict[str, int]:
        system, root = self._system("")
        root = root.rstrip("/")

        def find() -> dict[str, int]:
            try:
                found = system.find(root, detail=True)
            except FileNotFoundError:
                return {}
            return {path.removeprefix(f"{root}/"): int(info["size"]) for path, info in found.items()}

        return self._try("", find)

    def remove(self, name: str) -> None:
        system, path = self._system(name)
        self._try(name, lambda: _remove(system, path))

    def tidy(self) -> None:
        """Nothing to do: an upload that was cut off leaves no object (a bucket's lifecycle rule drops its parts)."""

    def _upload(self, source: Path, name: str) -> None:
        system, path = self._system(name)
        size = source.stat().st_size

        def upload() -> None:
            system.put_file(str(source), path)
            found = int(system.info(path)["size"])
            if found != size:
                raise OSError(f"{found} bytes arrived, {size} were sent")

        self._try(name, upload)

    def _download(self, name: str, target: Path) -> None:
        system, path = self._system(name)
        try:
            self._try(name, lambda: system.get_file(path, str(target)))
        except CorruptError as error:
            raise FileNotFoundError(str(error)) from error

    def _system(self, name: str) -> tuple[Any, str]:
        return file_system(f"{self.url}/{name}", {"use_listings_cache": False})

    def _try(self, name: str, action: Any) -> Any:
        return attempt(f"{self.url}/{name}", self.retry, action)


def _remove(system: Any, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        system.rm(path, recursive=True)

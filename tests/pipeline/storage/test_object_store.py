"""Writing to S3 behind a proxy that spoils requests: what ends up there is what was sent, or there is one error."""

from __future__ import annotations

import os
import pickle
import random
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import BuildError
from pipeline.storage import object_store, upload
from pipeline.storage.object_store import ObjectStore, open_object_store
from pipeline.storage.retry import Retry
from pipeline.storage.store import open_store
from tests.pipeline.storage.flaky_proxy import FAULTS, FlakyProxy, even_rates
from tests.pipeline.storage.s3_server import BUCKET, be_impatient, put_object, s3_client, s3_server

PATIENT = Retry(attempts=25, delay=0.0)
LOCK = "lock/driver.json"

pytestmark = pytest.mark.slow  # an S3 server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as bucket:
        yield bucket


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is not answered within half a second is given up, and tried again by `attempt` alone."""
    be_impatient(monkeypatch)


@pytest.fixture
def proxy(s3: str) -> Iterator[FlakyProxy]:
    """Before the server; spoils nothing until it is told to."""
    made = FlakyProxy(os.environ["AWS_ENDPOINT_URL"], seed=1)
    with made.running() as made.url:
        yield made


@pytest.fixture
def place(s3: str, proxy: FlakyProxy) -> ObjectStore:
    """A build of its own, through the proxy."""
    return ObjectStore(f"{s3}/{uuid.uuid4().hex}/build", proxy.url, retry=PATIENT)


def stored(place: ObjectStore) -> dict[str, bytes]:
    """What the server holds, asked without the proxy."""
    direct = open_store(place.url)
    return {name: direct.read(name) for name in direct.sizes()}


def test_what_a_flaky_store_holds_in_the_end_is_what_was_sent(place: ObjectStore, proxy: FlakyProxy) -> None:
    proxy.rates = even_rates(0.35)
    choice = random.Random(0)
    sent = {f"train/{i:03}": choice.randbytes(choice.randrange(40_000)) for i in range(20)}

    def put(name: str) -> None:
        with place.writing(name) as path:
            path.write_bytes(sent[name])
        place.write(f"work/{name}", sent[name][:100])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(put, sent))
    assert stored(place) == sent | {f"work/{name}": data[:100] for name, data in sent.items()}
    assert place.sizes() == {name: len(data) for name, data in stored(place).items()}
    with place.folder("train") as folder:
        assert {f"train/{path.name}": path.read_bytes() for path in folder.iterdir()} == sent
    place.remove("work")
    assert stored(place) == sent
    assert all(proxy.counts[fault] >= 1 for fault in FAULTS)
    assert proxy.injected >= 30


def test_a_large_file_goes_in_parts_through_every_fault(
    place: ObjectStore, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the answer to the last request is lost: the parts are gone by then."""
    _parts_of_5_mib(monkeypatch)
    monkeypatch.setenv("VLAJEPA_STORE_TIMEOUT", "10")  # which sending a part counts towards
    data = random.Random(0).randbytes(12 * 2**20)
    proxy.forced = {"POST": ["500", None, "lost"], "PUT": [None, "dropped", "damaged", "lost"], "HEAD": ["503"]}
    with place.writing("train/large") as path:
        path.write_bytes(data)
    assert proxy.forced == {"POST": [], "PUT": [], "HEAD": []}
    assert stored(place) == {"train/large": data}
    info = s3_client().head_object(Bucket=BUCKET, Key=f"{place.url.removeprefix(f's3://{BUCKET}/')}/train/large")
    assert info["ETag"].endswith('-3"')
    assert place.digest("train/large") == open_object_store(place.url).digest("train/large")


def _parts_of_5_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least that S3 takes."""
    for module in (object_store, upload):
        monkeypatch.setattr(module, "PART", 5 * 2**20)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Three parts."""
    _parts_of_5_mib(monkeypatch)
    monkeypatch.setenv("VLAJEPA_STORE_TIMEOUT", "10")  # which sending a part counts towards
    return random.Random(0).randbytes(12 * 2**20)


def stream(place: ObjectStore, data: bytes, piece: int = 1_000_000) -> None:
    with place.streaming("train/large") as file:
        for start in range(0, len(data), piece):
            file.write(memoryview(data)[start : start + piece])


def unfinished(place: ObjectStore) -> list[str]:
    """Uploads whose parts the server keeps."""
    prefix = place.url.removeprefix(f"s3://{BUCKET}/")
    found = s3_client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return [upload["Key"] for upload in found if upload["Key"].startswith(prefix)]


def test_what_is_streamed_goes_in_parts_through_every_fault(
    place: ObjectStore, proxy: FlakyProxy, large: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the answer to the last request is lost. Nothing lies in TMPDIR, and nobody sees the file before."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    proxy.forced = {"POST": ["500", None, "lost"], "PUT": [None, "dropped", "503", "lost"], "HEAD": ["503"]}
    with place.streaming("train/large") as file:
        file.write(large[: 11 * 2**20])
        assert stored(place) == {}
        file.write(large[11 * 2**20 :])
    assert proxy.forced == {"POST": [], "PUT": [], "HEAD": []}
    assert stored(place) == {"train/large": large}
    assert unfinished(place) == []


@pytest.mark.parametrize("told", ["md5", "nothing"])
@pytest.mark.parametrize("bad", [True, False])
def test_a_streamed_byte_that_changed_on_the_way_is_an_error(
    bad: bool, told: str, place: ObjectStore, proxy: FlakyProxy, large: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be sent again."""
    if told == "nothing":
        monkeypatch.setattr(object_store, "_etag", lambda _info: "")
    proxy.forced = {"PUT": [None, "damaged" if bad else None]}
    impatient = ObjectStore(place.url, place.endpoint, retry=Retry(2, 0.0))
    if bad:
        with pytest.raises(BuildError, match=r"train/large cannot be .*(has MD5|checksum)"):
            stream(impatient, large)
    else:
        stream(impatient, large)
        assert stored(place) == {"train/large": large}


@pytest.mark.parametrize("size", [0, 1, 5 * 2**20, 5 * 2**20 + 1, 10 * 2**20])
def test_a_stream_of_any_length(size: int, place: ObjectStore, large: bytes) -> None:
    stream(place, large[:size])
    assert stored(place) == {"train/large": large[:size]}


def test_a_stream_whose_writer_fails_leaves_nothing(place: ObjectStore, large: bytes) -> None:
    with pytest.raises(ZeroDivisionError), place.streaming("train/large") as file:  # noqa: PT012
        file.write(large)
        assert unfinished(place)
        raise ZeroDivisionError
    assert stored(place) == {}
    assert unfinished(place) == []


def test_a_stream_to_a_store_that_is_gone_is_given_up_and_leaves_nothing(
    place: ObjectStore, proxy: FlakyProxy, large: bytes
) -> None:
    proxy.forced = {"PUT": ["503"] * 60}
    with pytest.raises(BuildError, match=r"train/large cannot be read or written, .*after 4 retries"):
        stream(ObjectStore(place.url, place.endpoint, retry=Retry(2, 0.0)), large)
    assert proxy.forced["PUT"]  # parts that followed were not sent
    proxy.forced = {}
    assert stored(place) == {}
    assert unfinished(place) == []


def test_a_stream_into_a_missing_bucket_names_it(proxy: FlakyProxy, large: bytes) -> None:
    with pytest.raises(BuildError, match="s3://no-such-bucket/build: there is no such bucket; make it"):
        stream(ObjectStore("s3://no-such-bucket/build", proxy.url, retry=PATIENT), large)


@pytest.mark.parametrize("told", ["md5", "nothing"])
def test_a_byte_that_changed_on_the_way_is_noticed_and_sent_again(
    told: str, place: ObjectStore, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the MD5 the store tells, or, of one that tells none, by reading the object back."""
    if told == "nothing":
        monkeypatch.setattr(object_store, "_etag", lambda _info: "")
    proxy.forced = {"PUT": ["damaged", "damaged"]}
    place.write("a", b"x" * 1000)
    with place.writing("b") as path:
        path.write_bytes(b"y" * 1000)
    assert proxy.counts["damaged"] == 2
    assert stored(place) == {"a": b"x" * 1000, "b": b"y" * 1000}
    proxy.forced = {"PUT": ["damaged"] * 3}
    with pytest.raises(BuildError, match=r"/c cannot be read or written, tried 3 times: .*(has MD5|checksum)"):
        ObjectStore(place.url, place.endpoint, retry=Retry(3, 0.0)).write("c", b"z")


def test_a_lost_answer_to_a_lock_does_not_make_it_anothers(place: ObjectStore, proxy: FlakyProxy) -> None:
    proxy.forced = {"PUT": ["lost", "503", "lost"]}
    assert place.create(LOCK, b"mine")
    proxy.forced = {"PUT": ["lost"]}
    assert not place.create(LOCK, b"yours")
    assert stored(place) == {LOCK: b"mine"}


def test_of_many_one_makes_the_lock_whatever_fails(place: ObjectStore, proxy: FlakyProxy) -> None:
    proxy.rates = even_rates(0.3)
    for i in range(3):
        with ThreadPoolExecutor(6) as pool:
            won = list(pool.map(lambda n, i=i: place.create(f"lock-{i}/driver.json", b"%d" % n), range(6)))
        assert sum(won) == 1
        assert open_store(place.url).read(f"lock-{i}/driver.json") == b"%d" % won.index(True)
    assert proxy.injected > 10


def test_a_store_that_knows_no_conditions_is_no_place_for_a_lock(place: ObjectStore, proxy: FlakyProxy) -> None:
    proxy.unconditional = True
    with pytest.raises(BuildError, match=r"ignores the condition of a conditional write \(If-None-Match"):
        place.create(LOCK, b"mine")
    assert stored(place) == {}


def test_a_store_that_is_silent_is_given_up(place: ObjectStore, proxy: FlakyProxy) -> None:
    proxy.rates = {"silent": 1.0}
    start = time.monotonic()
    with pytest.raises(BuildError, match=r"build/a cannot be read or written, tried 2 times: .*[Tt]imeout.*endpoint"):
        ObjectStore(place.url, place.endpoint, retry=Retry(2, 0.0)).write("a", b"x")
    assert time.monotonic() - start < 5


def test_a_missing_bucket_is_named(proxy: FlakyProxy) -> None:
    place = ObjectStore("s3://no-such-bucket/build", proxy.url, retry=PATIENT)
    for act in (lambda: place.write("a", b"x"), lambda: place.create(LOCK, b"x")):
        proxy.counts.clear()
        with pytest.raises(BuildError, match="s3://no-such-bucket/build: there is no such bucket; make it"):
            act()
        assert proxy.counts["requests"] == 1
    assert place.sizes() == {}


def test_marks_of_empty_folders_are_told_from_files(s3: str) -> None:
    place = open_store(f"{s3}/{uuid.uuid4().hex}")
    for name, data in (("", b""), ("train/", b""), ("odd/", b"hidden"), ("a", b"1")):
        put_object(f"{place.where}/{name}", data)
    assert place.sizes() == {"train/": 0, "odd/": 6, "a": 1}
    place.remove("odd")
    assert place.sizes() == {"train/": 0, "a": 1}


def test_a_part_of_a_file(place: ObjectStore) -> None:
    place.write("a", b"0123456789")
    assert place.read_part("a", 2, 5) == b"234"
    assert place.read_part("a", 8, 50) == b"89"
    assert place.read_part("a", 10, 20) == b""
    with pytest.raises(FileNotFoundError):
        place.read_part("b", 0, 1)


def test_workers_are_told_the_place_and_no_secret(s3: str) -> None:
    assert open_object_store(s3) == ObjectStore(s3, os.environ["AWS_ENDPOINT_URL"], "us-east-1")
    assert open_object_store("gs://bucket/x") == ObjectStore("gs://bucket/x", None, None)
    sent = pickle.dumps(open_store(f"{s3}/build"))
    assert os.environ["AWS_ENDPOINT_URL"].encode() in sent
    assert not any(os.environ[name].encode() in sent for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))


def test_a_file_that_shrinks_on_the_way_is_fetched_again(place: ObjectStore, proxy: FlakyProxy, tmp_path: Path) -> None:
    place.write("a", b"x" * 5000)
    proxy.forced = {"GET": ["cut", "lost", "500"]}
    place.download("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"x" * 5000
    assert proxy.forced == {"GET": []}

"""Whose keys an S3 is asked with, where it lies, and a process that was forked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import BuildError, SettingsError
from pipeline.storage.aws_profile import AwsProfile, read_profile
from pipeline.storage.clients import client_of, key_of, s3_place
from pipeline.storage.object_store import open_object_store

CREDENTIALS = """
[default]
aws_access_key_id = one
aws_secret_access_key = first
[lab]
aws_access_key_id = two
aws_secret_access_key = second
aws_session_token = short
"""
CONFIG = """
[profile lab]
region = eu-central-1
endpoint_url = http://lab:9000
[profile cloud]
sso_session = us
region = us-west-2
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared files, and none of the variables that come before them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, variable, text in (
        ("credentials", "AWS_SHARED_CREDENTIALS_FILE", CREDENTIALS),
        ("config", "AWS_CONFIG_FILE", CONFIG),
    ):
        (tmp_path / name).write_text(text)
        monkeypatch.setenv(variable, str(tmp_path / name))


def test_a_profile_is_read_from_both_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_profile() == AwsProfile("one", "first")
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert read_profile() == AwsProfile("two", "second", "short", "eu-central-1", "http://lab:9000")
    assert s3_place() == ("http://lab:9000", "eu-central-1")
    config = client_of("s3://b/x", *s3_place()).config
    assert (config["access_key_id"], config["secret_access_key"], config["endpoint"]) == (
        "two",
        "second",
        "http://lab:9000",
    )


def test_variables_come_before_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "lab")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "three")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://here")
    assert read_profile() == AwsProfile(region="eu-central-1", endpoint="http://lab:9000")
    assert s3_place() == ("http://here", "eu-central-1")


def test_a_profile_without_keys_or_without_a_section_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "cloud")
    with pytest.raises(BuildError, match="aws configure export-credentials --profile cloud --format env"):
        read_profile()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(BuildError, match="AWS_PROFILE=nobody is in neither"):
        read_profile()


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "-1", "0", "1e30", ""])
def test_a_timeout_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("VLAJEPA_STORE_TIMEOUT", text)
    with pytest.raises(SettingsError, match=f"VLAJEPA_STORE_TIMEOUT must be a number of seconds .*, got '{text}'"):
        client_of("https://timeout.invalid/x", None, None)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cret@host/build",
        "HTTP://s3cret@host:80/build",
        "s3://key:s3cret@bucket/build",
        "https://host/build?X-Amz-Signature=s3cret",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError, match="credentials in it, which would end up in logs") as caught:
        open_object_store(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://bucket/a@b/c?d", "https://host/a@b", "gs://bucket/x"])
def test_signs_in_names_are_no_credentials(url: str) -> None:
    assert open_object_store(url).url == url


def test_a_key_is_the_path_below_the_bucket() -> None:
    assert key_of("s3://b/x%20y", "a/b") == "x%20y/a/b"
    assert key_of("https://h:1/x%20y", "a b") == "x y/a b"
    assert (key_of("s3://b"), key_of("s3://b", "a"), key_of("file:///x/y")) == ("", "a", "x/y")


def test_a_forked_process_is_told_so(tmp_path: Path) -> None:
    """obstore itself would wait forever."""
    client_of("file:///", None, None)
    child = os.fork()
    if child == 0:
        try:
            client_of("file:///", None, None)
        except BuildError as error:
            os._exit(7 if "start it with spawn" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

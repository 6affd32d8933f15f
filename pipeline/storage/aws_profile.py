"""A profile of AWS's shared files (~/.aws/credentials, ~/.aws/config), which obstore does not read without boto3.

Only keys in a file are read. Single sign-on, roles and credential programs are left to AWS's own command line, which
exports the result as variables.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BuildError

_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_WITHOUT_KEYS = ("sso_session", "sso_start_url", "role_arn", "credential_process")
_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE")
"""Variables with credentials, which take precedence over the files."""


@dataclass(frozen=True)
class AwsProfile:
    """Settings of a profile; None where it has none."""

    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    region: str | None = None
    endpoint: str | None = None


def read_profile() -> AwsProfile:
    """The profile that AWS_PROFILE names, else the default one; without its keys where the environment has some.

    Raises:
        BuildError: AWS_PROFILE names none, a file cannot be read, or the keys are not in the files.
    """
    chosen = os.environ.get("AWS_PROFILE")
    name = chosen or "default"
    config = _section("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}")
    credentials = _section("AWS_SHARED_CREDENTIALS_FILE", "credentials", name)
    if chosen and config is None and credentials is None:
        raise BuildError(f"AWS_PROFILE={chosen} is in neither ~/.aws/credentials nor ~/.aws/config; correct it")
    settings = {**(config or {}), **(credentials or {})}
    region, endpoint = settings.get("region"), settings.get("endpoint_url")
    if any(os.environ.get(variable) for variable in _ENVIRONMENT):
        return AwsProfile(region=region, endpoint=endpoint)
    access, secret, token = (settings.get(key) for key in _KEYS)
    if access is None and any(key in settings for key in _WITHOUT_KEYS):
        raise BuildError(
            f"the AWS profile {name!r} holds no keys (single sign-on, a role or a program gives them); run "
            f'eval "$(aws configure export-credentials --profile {name} --format env)" first'
        )
    return AwsProfile(access, secret, token, region, endpoint)


def _section(variable: str, file: str, name: str) -> Mapping[str, str] | None:
    path = Path(os.environ.get(variable) or f"~/.aws/{file}").expanduser()
    parser = configparser.RawConfigParser()
    try:
        parser.read(path)
    except (configparser.Error, UnicodeDecodeError) as error:
        raise BuildError(f"{path} cannot be read: {error}; correct it") from error
    return dict(parser[name]) if name in parser else None

"""What the providers' own tools find and obstore does not: profiles, connection strings, emulators. And what may go over http.

In: the environment, as the providers name its variables. Out: options for obstore's stores. Called by `stores`. What is found
is handed on and kept nowhere.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ..core.addresses import is_loopback
from ..core.text import harmless
from .faults import StoreFault, What

_OWN: Final = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
               "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SKIP_SIGNATURE")  # fmt: skip
_PROFILE_KEYS: Final = {"aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key",
                        "aws_session_token": "session_token"}  # fmt: skip
_ASKED_FOR: Final = ("sso_session", "sso_start_url", "role_arn", "credential_process")  # what only boto3 can follow


def s3(env: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """Options, and whether plain http is meant. Raises StoreFault where a profile cannot be followed, or the endpoint is plain
    http and far away."""
    found = _profile(env)
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or env.get("AWS_ENDPOINT") or found.get("endpoint")
    if endpoint:
        found["endpoint"] = endpoint
    if "region" not in found and not env.get("AWS_REGION") and env.get("AWS_DEFAULT_REGION"):
        found["region"] = env["AWS_DEFAULT_REGION"]
    return found, _over_http(endpoint, "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", env)


def _profile(env: Mapping[str, str]) -> dict[str, Any]:
    """What ~/.aws says of the profile; nothing where the environment has credentials of its own."""
    name = env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE") or "default"
    home = Path(env.get("HOME", "~")).expanduser() / ".aws"
    sections: dict[str, str] = {}
    for variable, file, section in (
        ("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(Path(env.get(variable) or home / file).expanduser(), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue  # as if it were not there: a broken file of another tool is not ours to judge
        if parser.has_section(section):
            sections |= dict(parser.items(section))
    found: dict[str, Any] = {}
    if sections.get("region") and not env.get("AWS_REGION") and not env.get("AWS_DEFAULT_REGION"):
        found["region"] = sections["region"]
    if sections.get("endpoint_url"):
        found["endpoint"] = sections["endpoint_url"]
    if any(env.get(variable) for variable in _OWN):
        return found
    if not sections and env.get("AWS_PROFILE"):
        raise StoreFault(
            What.SETUP, f"AWS_PROFILE names {harmless(name, 80)}, which ~/.aws does not have", "correct it, or unset it"
        )
    keys = {ours: sections[theirs] for theirs, ours in _PROFILE_KEYS.items() if sections.get(theirs)}
    if "access_key_id" in keys:
        return found | keys
    if any(sections.get(key) for key in _ASKED_FOR):
        found["credential_provider"] = _by_boto3(name)
    return found


def _by_boto3(name: str) -> Any:
    """Whoever logs in by single sign-on or takes a role is followed by AWS's own library."""
    try:
        import boto3  # type: ignore[import-not-found, unused-ignore]
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        what = f"the AWS profile {harmless(name, 80)} takes a role or logs in, which boto3 has to do"
        raise StoreFault(What.SETUP, what, "pip install boto3, or set AWS_ACCESS_KEY_ID") from None
    return Boto3CredentialProvider(boto3.Session(profile_name=name))


def gs(env: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """As for S3. Raises StoreFault where the endpoint is plain http and far away."""
    found: dict[str, Any] = {}
    emulator = env.get("STORAGE_EMULATOR_HOST")
    if emulator:  # as Google's own libraries take it
        found |= {"base_url": emulator if "://" in emulator else f"http://{emulator}", "skip_signature": True}
    endpoint = found.get("base_url") or env.get("GOOGLE_BASE_URL")
    return found, _over_http(endpoint, "STORAGE_EMULATOR_HOST", "GOOGLE_ALLOW_HTTP", env)


def az(env: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """As for S3. Raises StoreFault where the endpoint is plain http and far away."""
    found: dict[str, Any] = {}
    parts = dict(part.split("=", 1) for part in env.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";") if "=" in part)
    for theirs, ours in (("AccountName", "account_name"), ("AccountKey", "account_key"), ("BlobEndpoint", "endpoint"),
                         ("SharedAccessSignature", "sas_key")):  # fmt: skip
        if parts.get(theirs):
            found[ours] = parts[theirs]
    for theirs, ours in (("AZURE_STORAGE_ACCOUNT", "account_name"), ("AZURE_STORAGE_KEY", "account_key"),
                         ("AZURE_STORAGE_SAS_TOKEN", "sas_key")):  # fmt: skip
        if env.get(theirs) and ours not in found:
            found[ours] = env[theirs]
    endpoint = found.get("endpoint") or env.get("AZURE_STORAGE_ENDPOINT") or env.get("AZURE_ENDPOINT")
    return found, _over_http(endpoint, "the endpoint of AZURE_STORAGE_CONNECTION_STRING", "AZURE_ALLOW_HTTP", env)


def _over_http(endpoint: str | None, variable: str, allow: str, env: Mapping[str, str]) -> bool:
    """Whether the endpoint is plain http: only to this machine, unless the store's own variable allows it."""
    if endpoint is None or not endpoint.startswith("http://"):
        return False
    host = urlsplit(endpoint).hostname or ""
    if not is_loopback(host) and env.get(allow, "").lower() not in ("true", "1", "yes"):
        what = f"{variable} is plain http to {harmless(host, 80)}, which anybody on the way could read"
        raise StoreFault(What.SETUP, what, f"use https, or allow it with {allow}=true")
    return True


def trusted(env: Mapping[str, str], scheme: str) -> bytes | None:
    """Certificates that are trusted beside the system's, as PEM."""
    path = (env.get("AWS_CA_BUNDLE") if scheme == "s3" else None) or env.get("SSL_CERT_FILE")
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise StoreFault(What.SETUP, f"the certificates in {harmless(str(path), 200)} cannot be read: {error.strerror}",
                    "correct AWS_CA_BUNDLE or SSL_CERT_FILE") from error  # fmt: skip


def environment() -> Mapping[str, str]:
    """Where the providers' own tools look; obstore looks there, too."""
    return os.environ

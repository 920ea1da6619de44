"""What single members may hold: names, ids, prompts, MIME types, addresses.

In: one value. Out: the same value, normalised. Two kinds of refusal: ValueError where pydantic calls (settings are
constants), Unfit where a placeholder may have to be rendered first. Called by `keys_of_settings`, `inputs`,
`flows`, `flow_entries` and `input_entries`.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from batcher.core.addresses import is_loopback
from batcher.core.model import SANDBOX
from batcher.manifest import units
from batcher.manifest.findings import Unfit, quoted

MAX_NAME_CHARS: Final = 200
MAX_BATCH_CHARS: Final = 100
MIN_MEMORY_BYTES: Final = 1 << 20  # one chunk of a large file, encoded, has to fit

_MIME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}", re.ASCII)
_FLOW_ID: Final = re.compile(rf"(?!\.+\Z)[A-Za-z0-9_.~:-]{{1,{MAX_NAME_CHARS}}}", re.ASCII)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


# --- Settings: ValueError -------------------------------------------------------------------------------------------


def check_version(value: object) -> int:
    if type(value) is int and value == 1:
        return 1
    raise ValueError(f"`version` must be 1, not {quoted(value)}")


def parse_endpoint(value: object) -> str:
    """An http(s) address without trailing slash, in one spelling, or the word `sandbox`. Never repeats a password."""
    if not isinstance(value, str):
        raise ValueError(f"an endpoint must be a text, not {quoted(value)}")
    text = value.strip()
    if text == SANDBOX:
        return SANDBOX
    if "@" in text:
        raise ValueError("an endpoint holds no user name or password; the key comes from GENERIO_API_KEY")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("the endpoint is no address; write one like https://flows.generio.ai") from None
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[\w.:-]+", host):
        raise ValueError(f"the endpoint {quoted(text)} is neither an http(s) address nor `{SANDBOX}`")
    if "?" in text or "#" in text:
        raise ValueError("an endpoint has no query (`?`) and no fragment (`#`)")
    if not re.fullmatch(r"[!-~]*", parts.path):
        raise ValueError("the endpoint's path has characters that must be percent-encoded")
    shown_host = f"[{host}]" if ":" in host else host
    default_port = {"http": 80, "https": 443}[parts.scheme]
    shown_port = "" if port in (None, default_port) else f":{port}"
    return f"{parts.scheme}://{shown_host}{shown_port}{parts.path.rstrip('/')}"


def check_batch(value: object) -> str:
    if isinstance(value, str) and value.strip() and len(value) <= MAX_BATCH_CHARS and value.isprintable():
        return value
    raise ValueError(f"a batch's name is a text of 1 to {MAX_BATCH_CHARS} printable characters, not {quoted(value)}")


def check_timeout(value: Any) -> float:
    seconds = units.parse_duration(value)
    if seconds <= 0:
        raise ValueError("a timeout must be more than zero")
    return seconds


def check_max_duration(value: Any) -> float:
    seconds = units.parse_duration(value)
    if seconds <= 0:
        raise ValueError("a run needs more than no time at all (leave it out for no bound)")
    return seconds


def check_max_bytes(value: Any) -> int:
    size = units.parse_size(value)
    if size < 1:
        raise ValueError("a cap is at least one byte (leave it out for no cap)")
    return size


def check_memory(value: Any) -> int:
    size = units.parse_size(value)
    if size < MIN_MEMORY_BYTES:
        raise ValueError("at least 1MiB of memory is needed")
    return size


def parse_ping(value: object) -> str:
    """An address to be asked when a run begins and ends: https, or plain http to loopback. Never repeats it: it is a secret
    of a kind."""
    if not isinstance(value, str):
        raise ValueError(f"`ping` is an address, not {quoted(value)}")
    text = value.strip()
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("`ping` is no address") from None
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("`ping` is no https address")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"`ping` to {quoted(host)} would go over plain http")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("`ping` takes an address without user name, password and fragment (#)")
    return text


def check_hook(value: object) -> str | tuple[str, ...]:
    """A line for the shell, or a command's words."""
    given = value if isinstance(value, list) else [value]
    words = [word for word in given if isinstance(word, str) and "\0" not in word]
    if not words or len(words) < len(given) or not words[0].strip():
        raise ValueError(f"a hook is a line for the shell or a list of words, not {quoted(value)}")
    return value if isinstance(value, str) else tuple(words)


def check_metrics(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or value.endswith("/"):
        raise ValueError(f"`metrics` is the path of a file, not {quoted(value)}")
    return value


# --- Flows and inputs: Unfit ----------------------------------------------------------------------------------------


def check_name(name: str) -> str:
    """A flow's name."""
    return _identity(name, "the flow's name", "give it one that is unique in the manifest")


def check_key(key: str) -> str:
    """An input's key."""
    return _identity(key, "the input's key", "give it one that is unique in its flow, or leave `key` out")


def _identity(text: str, what: str, if_empty: str) -> str:
    if not text or text.isspace():
        raise Unfit(f"{what} is empty", if_empty)
    if len(text) > MAX_NAME_CHARS:
        raise Unfit(f"{what} has {len(text)} characters", f"{MAX_NAME_CHARS} are allowed")
    # isprintable is quick, and too strict: it refuses joined emoji and no-break spaces.
    if not text.isprintable() and _CONTROL.search(text):
        raise Unfit(f"{what} {quoted(text)} has control characters", "remove them")
    return text


def check_template(name: str) -> str:
    if not name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise Unfit(f"{quoted(name)} is no template's name", "write one that the service offers")
    return name


def check_flow_id(flow_id: str) -> str:
    # It becomes a part of an address: nothing in it may lead elsewhere.
    if not _FLOW_ID.fullmatch(flow_id):
        raise Unfit(f"{quoted(flow_id)} is no flow's id", "letters, digits, - and _ only, as the service gave it")
    return flow_id


def check_text(text: str) -> str:
    """A prompt as the service takes it."""
    if not text or text.isspace():
        raise Unfit("the prompt is empty", "write what to make, or remove the input")
    if text[:5].lower() == "data:":
        raise Unfit("the prompt begins with `data:`", "the service would read it as a file; reword it, or use `file`")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unfit("the prompt has half a surrogate pair", "write the character itself") from None
    return text


def check_mime(mime: str) -> str:
    if not _MIME.fullmatch(mime):
        raise Unfit(f"{quoted(mime)} is no MIME type", "write one like image/png, without parameters")
    return mime

"""The buckets of object stores, opened once each.

In: addresses. Out: obstore's stores. Called by `reading`, `listing` and `writing`. Reads are tried again by obstore itself,
which asks for no second time for what came before a break.
"""

from __future__ import annotations

import importlib.util
import threading
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from ..core.objects import Address
from ..core.text import harmless
from ..version import __version__
from . import credentials
from .faults import StoreFault, What, no_extra

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRIES: Final = 6
RETRY_S: Final = 60.0  # after so long no more is tried
QUIET_S: Final = 30  # without a byte
_turn = threading.Lock()


def store_of(address: Address) -> ObjectStore:
    """The bucket of this address. Raises StoreFault."""
    with _turn:  # one bucket, one store: its connections are kept
        return _opened(address.scheme, address.bucket)


@cache
def _opened(scheme: str, bucket: str) -> ObjectStore:
    if importlib.util.find_spec("obstore") is None:
        raise no_extra()
    from obstore.store import AzureStore, GCSStore, S3Store

    env = credentials.environment()
    options, over_http = {"s3": credentials.s3, "gs": credentials.gs, "az": credentials.az}[scheme](env)
    client: dict[str, Any] = {
        "timeout": timedelta(days=7),  # a body may take its time; one that stands still may not
        "read_timeout": timedelta(seconds=QUIET_S), "connect_timeout": timedelta(seconds=10),
        "user_agent": f"batcher/{__version__}",
    }  # fmt: skip
    if over_http:
        client["allow_http"] = True
    certificates = credentials.trusted(env, scheme)
    if certificates is not None:
        client["root_certificate"] = certificates
    backoff = {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5), "base": 2}
    retry = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S), "backoff": backoff}
    more: dict[str, Any] = {"client_options": client, "retry_config": retry, **options}
    try:
        match scheme:
            case "s3":
                return S3Store(bucket, **more)
            case "gs":
                return GCSStore(bucket, **more)
            case _:
                return AzureStore(bucket, **more)
    except Exception as error:  # obstore's own, of whatever is wrong in the environment; its words may hold a key
        words = harmless(str(error).partition("\n")[0], 120) if "key" not in str(error).lower() else type(error).__name__
        raise StoreFault(What.SETUP, f"{scheme}://{bucket} cannot be opened: {words}", "check the store's variables") from None

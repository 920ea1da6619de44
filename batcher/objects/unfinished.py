"""What a killed process has left of an upload in parts, on S3: taken away before the same key is sent again.

In: a key that is about to be written. Out: nothing; its store holds no parts of it any more, as far as that can be done.
Called by `writing`. Such parts are seen by nobody, and paid for until they are taken away. obstore has no call to list or to
end them, but signs addresses with whatever credentials it has found: the two calls are made by addresses that it has signed.
(Azure drops such parts after a week by itself; on Google's store a rule of the bucket does.) """

from __future__ import annotations

import contextlib
import re
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote
from xml.sax.saxutils import unescape

import aiohttp
from yarl import URL

from ..core.objects import Address
from ..host.proxies import proxy_for
from . import credentials

SIGNED_FOR: Final = timedelta(minutes=5)
REPLY_BYTES: Final = 1 << 20
ASK_S: Final = 10.0
_UPLOAD: Final = re.compile(r"<Key>([^<]*)</Key>.*?<UploadId>([^<]*)</UploadId>", re.DOTALL)


async def clear(address: Address) -> None:
    """End every upload of this key that was never completed. What fails here fails nothing: the upload will say what is
    wrong."""
    if address.scheme != "s3":
        return
    with contextlib.suppress(Exception):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_S)) as session:
            for upload in await _of(session, address):
                query = f"uploadId={quote(upload, safe='')}&x-id=AbortMultipartUpload"
                url = await _signed(address, f"/{quote(address.key)}?{query}", "DELETE")
                async with session.delete(URL(url, encoded=True), proxy=proxy_for(url)):
                    pass


async def _of(session: aiohttp.ClientSession, address: Address) -> list[str]:
    """The ids of the uploads of this key."""
    url = await _signed(address, f"?uploads=&prefix={quote(address.key, safe='')}&delimiter=", "GET")
    async with session.get(URL(url, encoded=True), proxy=proxy_for(url)) as reply:
        text = (await reply.content.read(REPLY_BYTES)).decode(errors="replace") if reply.status == 200 else ""
    return [unescape(upload) for key, upload in _UPLOAD.findall(text) if unescape(key, {"&quot;": '"'}) == address.key]


async def _signed(address: Address, rest: str, method: Any) -> str:
    """The signed address of something in the bucket. (The endpoint is given with its query, to which obstore adds one
    slash.)"""
    import obstore
    from obstore.store import S3Store

    env = credentials.environment()
    options, over_http = credentials.s3(env)
    region = options.get("region") or env.get("AWS_REGION") or "us-east-1"
    endpoint = str(options.pop("endpoint", "") or f"https://s3.{region}.amazonaws.com").rstrip("/")
    bucket = "" if env.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() == "true" else f"/{address.bucket}"
    more: dict[str, Any] = {"client_options": {"allow_http": over_http}, "virtual_hosted_style_request": True, **options}
    store = S3Store(address.bucket, endpoint=f"{endpoint}{bucket}{rest}", **more)
    return await obstore.sign_async(store, method, "", SIGNED_FOR)

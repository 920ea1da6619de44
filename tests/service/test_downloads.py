"""An output that lies at an address: it is asked for there, without the key, and what goes wrong there is said."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from aiohttp import web

from batcher.core.output_check import Spoiled
from batcher.core.remote import Arrived
from batcher.core.retry import Fault, Reply

from .serving import client_of

pytestmark = pytest.mark.anyio
GLB = b"glTF" + bytes(60)
WRAPPED = b'{"data":"data:model/gltf-binary;base64,' + base64.b64encode(GLB) + b'"}'


class Sink:
    def __init__(self) -> None:
        self.data = b""

    async def write(self, data: bytes) -> None:
        self.data += data


async def got(answer: Callable[[web.BaseRequest], web.Response]) -> tuple[Arrived | Spoiled | Reply | Fault, bytes, list[str]]:
    """What came of an output, its bytes, and the requests: their paths, with a `*` where the key was in it."""
    asked: list[str] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path_qs + "*" * ("Authorization" in request.headers))
        return answer(request)

    sink = Sink()
    async with client_of(handle, "secret-key-7") as client:
        found = await client.output("f", "a", sink)
    return found, sink.data, asked


def leads_to(address: str, status: int = 302) -> web.Response:
    return web.Response(status=status, headers={"Location": address})


async def test_output_in_the_reply_itself() -> None:
    assert await got(lambda request: web.Response(body=WRAPPED)) == (
        Arrived("model/gltf-binary"), GLB, ["/flows/f/outputs/a*"],
    )  # fmt: skip


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_followed_without_the_key(status: int) -> None:
    def answer(request: web.BaseRequest) -> web.Response:
        if request.path.startswith("/flows"):
            return leads_to("/store/a?sig=s%2F1", status)
        return web.Response(body=GLB, content_type="model/gltf-binary")

    found, data, asked = await got(answer)
    assert (found, data) == (Arrived("model/gltf-binary"), GLB)
    assert asked == ["/flows/f/outputs/a*", "/store/a?sig=s%2F1"]


async def test_address_in_place_of_data_is_followed_and_a_refusal_there_spoils_the_output() -> None:
    def answer(request: web.BaseRequest) -> web.Response:
        if request.path.startswith("/flows"):
            return web.json_response({"url": f"http://{request.host}/gone?sig=s1"})
        return web.Response(status=410)

    found, data, asked = await got(answer)
    assert (found, data, len(asked)) == (Spoiled("its address at http://127.0.0.1 answers 410"), b"", 2)


async def test_addresses_that_lead_on_and_on_come_to_an_end() -> None:
    found, _, asked = await got(lambda request: leads_to(f"/store{len(request.path)}?sig=s1"))
    assert found == Spoiled("it is 5 addresses away")
    assert len(asked) == 6
    assert [path for path in asked if path.endswith("*")] == ["/flows/f/outputs/a*"]


@pytest.mark.parametrize(
    ("address", "why"),
    [("http://store.example/a?sig=s1", "its address at http://store.example is not followed: it is not https"),
     ("http://[", "its address gives nothing: Invalid IPv6 URL")],
)  # fmt: skip
async def test_address_that_is_not_followed(address: str, why: str) -> None:
    found, data, asked = await got(lambda request: web.json_response({"data": address}))
    assert (found, data, len(asked)) == (Spoiled(why), b"", 1)


async def test_nobody_at_the_address_is_said_without_its_signature() -> None:
    found, _, _ = await got(lambda request: leads_to("http://127.0.0.1:1/a?sig=s1"))
    assert isinstance(found, Spoiled)
    assert found.message.startswith("its address at http://127.0.0.1 gives nothing: ")
    assert "s1" not in found.message


async def test_refusal_of_the_output_itself_is_a_reply() -> None:
    found, _, _ = await got(lambda request: web.json_response({"detail": "no"}, status=404))
    assert found == Reply(404, None, True, "no")

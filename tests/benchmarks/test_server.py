"""The benchmark server does what the figures rely on: counts, checks lengths, lists, starts once, waits, refuses."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from .harness.server import NO_COMPILER, FlowsServer, compiler, executable

pytestmark = [pytest.mark.skipif(compiler() is None, reason=NO_COMPILER), pytest.mark.timeout(20)]

TAG = {"sku": 'a "quoted" } {"additional": 7}', "batcher": {"key": "0f" * 16, "sha256": "ab" * 32}}


@pytest.fixture
def server() -> Iterator[FlowsServer]:
    with FlowsServer() as server:
        yield server


def data_uri(size: int) -> str:
    return "data:image/png;base64," + base64.b64encode(bytes(size)).decode()


def new_flow(server: FlowsServer) -> str:
    status, reply = server.ask("POST", "/flows", {"template": "t", "additional": TAG})
    assert status == 200
    return str(reply["flow_id"])


def upload(server: FlowsServer, flow_id: str, size: int = 100, **members: object) -> int:
    return server.ask("POST", f"/flows/{flow_id}/inputs", {"data": data_uri(size), **members})[0]


def raw_upload(flow_id: str, body: bytes, announced: int) -> bytes:
    head = f"POST /flows/{flow_id}/inputs HTTP/1.1\r\nHost: x\r\ncontent-length: {announced}\r\n\r\n"
    return head.encode() + body


def send_in_pieces(server: FlowsServer, message: bytes, pieces: list[int]) -> bytes:
    """Sends `message` in pieces of the given lengths (the last repeats), then reads one reply, or b"" on a reset."""
    lengths = itertools.chain(pieces, itertools.repeat(pieces[-1]))
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            while message:
                length = next(lengths)
                connection.sendall(message[:length])
                message = message[length:]
                time.sleep(0.001)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(65536)
    return b""


def test_every_request_and_every_byte_is_counted(server: FlowsServer) -> None:
    flow_id = new_flow(server)
    assert [upload(server, flow_id, size, additional=None) for size in (1, 1000, 100_000)] == [200] * 3
    stats = server.stats()
    assert stats.accepted["create"] == 1
    assert stats.by_kind["upload"] == stats.accepted["upload"] == 3
    assert stats.data_bytes == sum(len(data_uri(size)) for size in (1, 1000, 100_000))
    assert stats.body_bytes > stats.data_bytes
    assert stats.connections == stats.requests == 4
    assert (stats.mismatches, stats.bad_inputs, stats.in_flight, stats.max_in_flight) == (0, 0, 0, 1)
    assert 0 < stats.first_request_s < stats.first_upload_s < stats.last_reply_s < time.monotonic()


@pytest.mark.parametrize("size", [1, 47, 3_000, 6_000, 300_000])
@pytest.mark.parametrize("pieces", [[1 << 20], [1, 7, 60, 333, 4097], [150, 2, 1, 40_000]])
def test_a_body_split_in_odd_places_is_read_whole(server: FlowsServer, size: int, pieces: list[int]) -> None:
    flow_id = new_flow(server)
    body = json.dumps({"data": data_uri(size), "additional": TAG}, separators=(",", ":")).encode()
    reply = send_in_pieces(server, raw_upload(flow_id, body, len(body)), pieces)
    assert reply.startswith(b"HTTP/1.1 200 ")
    stats = server.stats()
    assert stats.data_bytes == len(data_uri(size))
    assert stats.mismatches == 0
    assert server.ask("GET", f"/flows/{flow_id}/inputs")[1]["inputs"][0]["additional"] == TAG


@pytest.mark.parametrize("announced_more", [-1, 1, -10_000, 10_000])
def test_a_body_that_is_not_as_long_as_announced_is_a_mismatch(server: FlowsServer, announced_more: int) -> None:
    flow_id = new_flow(server)
    body = json.dumps({"data": data_uri(50_000), "additional": None}).encode()
    reply = send_in_pieces(server, raw_upload(flow_id, body, len(body) + announced_more), [len(body) * 2])
    assert b" 200 " not in reply
    assert server.stats().mismatches == 1
    assert server.stats().accepted["upload"] == 0


def test_bytes_after_a_body_do_not_pass_as_the_next_request(server: FlowsServer) -> None:
    body = json.dumps({"data": data_uri(50), "additional": None}).encode()
    message = raw_upload(new_flow(server), body, len(body)) + b"}"
    send_in_pieces(server, message, [len(message) - 1, 1])
    assert server.stats().mismatches == 1


def test_what_is_not_an_input_is_rejected(server: FlowsServer) -> None:
    flow_id = new_flow(server)
    for body in ({"additional": None}, {"data": 7, "additional": None}, ["data"], {"additional": 1, "data": "x"}):
        assert server.ask("POST", f"/flows/{flow_id}/inputs", body)[0] == 422
    assert server.stats().bad_inputs == 4


def test_listings_give_back_every_additional(server: FlowsServer) -> None:
    flow_id = new_flow(server)
    sent: list[object] = [TAG, None, [1, "]"], "text", 7, {}]
    for additional in sent:
        assert upload(server, flow_id, 10_000, additional=additional) == 200
    assert upload(server, flow_id) == 200  # no `additional` at all reads as null
    listing = server.ask("GET", f"/flows/{flow_id}/inputs?include_data=false")[1]
    assert listing["flow_id"] == flow_id
    assert [entry["additional"] for entry in listing["inputs"]] == [*sent, None]
    assert len({entry["id"] for entry in listing["inputs"]}) == 7
    flows = server.ask("GET", "/flows")[1]["flows"]
    assert [(flow["flow_id"], flow["template"], flow["state"], flow["additional"]) for flow in flows] == [
        (flow_id, "t", "created", TAG)
    ]


def test_a_long_listing_arrives_whole(server: FlowsServer) -> None:
    for _ in range(2_000):
        with_note = {"template": "t", "additional": {"note": "x" * 3_000}}
        server.ask("POST", "/flows", with_note)
    assert len(server.ask("GET", "/flows")[1]["flows"]) == 2_000


def test_a_flow_is_started_once_and_takes_no_more_inputs(server: FlowsServer) -> None:
    flow_id = new_flow(server)
    assert upload(server, flow_id) == 200
    assert server.ask("PATCH", f"/flows/{flow_id}", {"action": "start"})[0] == 200
    assert server.ask("GET", f"/flows/{flow_id}")[1]["state"] == "running"
    assert server.ask("PATCH", f"/flows/{flow_id}", {"action": "start"})[0] == 409
    assert upload(server, flow_id) == 409
    assert server.ask("DELETE", f"/flows/{flow_id}")[0] == 409
    stats = server.stats()
    assert (stats.accepted["start"], stats.double_starts, stats.rejected) == (1, 1, 3)


def test_a_deleted_flow_is_gone(server: FlowsServer) -> None:
    flow_id = new_flow(server)
    assert server.ask("DELETE", f"/flows/{flow_id}")[0] == 200
    assert server.ask("GET", f"/flows/{flow_id}")[0] == 404
    assert server.ask("GET", "/flows")[1] == {"flows": []}
    assert server.ask("GET", "/flows/none")[0] == 404


def test_reset_forgets_everything(server: FlowsServer) -> None:
    first = new_flow(server)
    server.reset()
    assert server.stats().requests == 0
    assert server.ask("GET", "/flows")[1] == {"flows": []}
    assert new_flow(server) == first  # identifiers begin again: curl's requests are written beforehand


def test_latency_is_per_request_and_not_per_server() -> None:
    with FlowsServer(latency_ms=50) as server, ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        assert list(pool.map(lambda _: server.ask("GET", "/templates")[0], range(16))) == [200] * 16
        took = time.monotonic() - began
        assert server.stats().max_in_flight == 8
    assert 0.1 <= took < 0.3


def test_the_same_share_is_refused_in_every_run() -> None:
    with FlowsServer(p503=0.3) as server:
        runs = []
        for _ in range(2):
            server.reset()
            runs.append([server.ask("GET", "/templates")[0] for _ in range(200)])
    assert runs[0] == runs[1]
    assert 40 < runs[0].count(503) < 80


@pytest.mark.parametrize("mode", ["503", "queue"])
def test_beyond_its_capacity_the_server_refuses_or_queues(mode: str) -> None:
    with FlowsServer(latency_ms=100, capacity=2, mode=mode) as server, ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda _: server.ask("GET", "/templates")[0], range(6)))
        took = server.stats().last_reply_s - server.stats().first_request_s
        server.set_capacity(6, mode)
        assert list(pool.map(lambda _: server.ask("GET", "/templates")[0], range(6))) == [200] * 6
        timeline, stats = server.timeline(), server.stats()
    assert statuses.count(503) == stats.refused == sum(timeline.refused) == (4 if mode == "503" else 0)
    assert took == pytest.approx(0.1 if mode == "503" else 0.3, abs=0.05)
    assert sum(timeline.arrived) == 12
    assert sum(timeline.accepted) == 12 - stats.refused
    assert [requests for _, requests in timeline.moves] == [6]


def test_a_request_whose_client_leaves_is_still_committed() -> None:
    with FlowsServer(latency_ms=50) as server:
        body = b'{"template":"t"}'
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"POST /flows HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.01)
        server.wait_for(lambda stats: stats.accepted["create"] == 1, timeout_s=5)


def test_quit_ends_the_server() -> None:
    process = subprocess.Popen([executable(), "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    with process.stdout, socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as connection:
        connection.sendall(b"POST /quit HTTP/1.1\r\n\r\n")
        assert process.wait(5) == 0

"""Azure's store and Google's, as their emulators play them, where those are at hand; and what the providers' own tools find."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import io
import os
import shutil
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from batcher.core.objects import Address
from batcher.objects import credentials, writing
from batcher.objects.client import objects
from batcher.objects.faults import StoreFault, What, of_error
from batcher.objects.listing import listing
from batcher.objects.reading import reader_of

from .stores import free_port, process

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # Azurite's, and public


@pytest.fixture
def azurite(tmp_path: Path, forgotten: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Azure's emulator (`npm install azurite`), named by AZURITE or on the PATH, with a container `shop`."""
    command = os.environ.get("AZURITE") or shutil.which("azurite-blob")
    if command is None or importlib.util.find_spec("obstore") is None:
        pytest.skip("Azurite is not at hand: npm install azurite, and AZURITE=node_modules/.bin/azurite-blob")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    words = [command, "--silent", "--blobPort", str(port), "--location", str(tmp_path), "--skipApiVersionCheck"]
    with process(words, port):
        date, version = formatdate(usegmt=True), "2021-08-06"
        text = "PUT" + 12 * "\n" + f"x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{ACCOUNT}/shop\nrestype:container"
        sum_ = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
        headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {ACCOUNT}:{sum_}"}
        request = urllib.request.Request(f"{endpoint}/shop?restype=container", b"", headers, method="PUT")
        request.add_header("Content-Type", "")
        urllib.request.urlopen(request).close()
        parts = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", parts)
        yield


@pytest.fixture
def google(tmp_path: Path, forgotten: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """fake-gcs-server, named by FAKE_GCS_SERVER or on the PATH, with a bucket `shop`. It takes no writes as obstore makes
    them."""
    command = os.environ.get("FAKE_GCS_SERVER") or shutil.which("fake-gcs-server")
    if command is None or importlib.util.find_spec("obstore") is None:
        pytest.skip("fake-gcs-server is not at hand: FAKE_GCS_SERVER names it")
    port = free_port()
    (tmp_path / "shop").mkdir()
    words = [command, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-filesystem-root", str(tmp_path)]
    with process([*words, "-public-host", f"127.0.0.1:{port}"], port):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"


def test_azure_is_written_listed_and_read(azurite: None) -> None:
    large = os.urandom(13_000_000)
    for key, content in (("out/y ü#%20.glb", b"a" * 100), ("out/big.glb", large)):
        at = Address("az", "shop", key)
        written = writing.write(at, io.BytesIO(content), len(content), {"Content-Type": "model/gltf-binary", "sha256": "00ff"})
        assert writing.look(at) == written
        assert writing.digest_beside(at) == "00ff"
        seen = objects().wait(reader_of(str(at)).look(inside=True))
        assert (seen[0], seen[3]) == (len(content), content[:32])
    there = listing(Address("az", "shop", ""), "out", "out/", lambda key: True)
    assert [key for key, _ in there] == ["out/big.glb", "out/y ü#%20.glb"]
    assert [(found.size, found.inode) for _, found in there] == [
        (looked.size, looked.inode) for key, _ in there if (looked := writing.look(Address("az", "shop", key)))
    ], "a listing and a look give one mark"
    with pytest.raises(StoreFault) as none:
        listing(Address("az", "none", ""), "out", "out/", lambda key: True)
    assert none.value.what is What.NO_BUCKET


def test_google_is_listed_and_read(google: str) -> None:
    content = os.urandom(600_000)
    place = f"{google}/upload/storage/v1/b/shop/o?uploadType=media&name=photos/y%20%C3%BC%23%2520.png"
    urllib.request.urlopen(urllib.request.Request(place, content, {"Content-Type": "image/png"})).close()
    url = "gs://shop/photos/y ü#%20.png"
    seen = objects().wait(reader_of(url).look(inside=True))
    assert (seen[0], seen[3]) == (len(content), content[:32])

    async def read() -> bytes:
        opened = await reader_of(url).open(1 << 17)
        assert opened.seen[:3] == seen[:3]
        return b"".join([piece async for piece in opened.pieces])

    assert objects().wait(read()) == content
    ((key, found),) = listing(Address("gs", "shop", ""), "photos", "photos/", lambda key: True)
    assert (key, found.size, found.inode) == ("photos/y ü#%20.png", len(content), seen[2])


@pytest.mark.parametrize(
    ("scheme", "variables"),
    [
        ("s3", {"AWS_ENDPOINT_URL": "http://minio.example.com"}), ("gs", {"STORAGE_EMULATOR_HOST": "gcs.example.com:4443"}),
        ("az", {"AZURE_STORAGE_CONNECTION_STRING": "AccountName=a;AccountKey=c2VjcmV0;BlobEndpoint=http://az.example.com/a"}),
    ],
)  # fmt: skip
def test_plain_http_goes_to_loopback_only_unless_it_is_allowed(
    tmp_path: Path, scheme: str, variables: dict[str, str]
) -> None:
    options = {"s3": credentials.s3, "gs": credentials.gs, "az": credentials.az}[scheme]
    env = {"HOME": str(tmp_path), **variables}
    with pytest.raises(StoreFault, match="plain http to") as refused:
        options(env)
    assert "c2VjcmV0" not in str(refused.value)
    allow = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}[scheme]
    assert options({**env, allow: "true"})[1]
    assert not options({"HOME": str(tmp_path)})[1]


def test_profiles_of_aws_are_followed(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        "[default]\nregion = eu-central-1\n[profile shop]\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:9000\n"
        "[profile role]\nrole_arn = arn:aws:iam::1:role/x\n"
    )
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = B\n"
        "[shop]\naws_access_key_id = C\naws_secret_access_key = D\n"
    )
    home = {"HOME": str(tmp_path)}
    assert credentials.s3(home) == ({"region": "eu-central-1", "access_key_id": "A", "secret_access_key": "B"}, False)
    shop = {"region": "eu-west-1", "endpoint": "http://127.0.0.1:9000", "access_key_id": "C", "secret_access_key": "D"}
    assert credentials.s3({**home, "AWS_PROFILE": "shop"}) == (shop, True)
    own = {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "F", "AWS_REGION": "us-east-2"}
    assert credentials.s3({**home, **own}) == ({}, False), "the environment's own come first"
    with pytest.raises(StoreFault, match="names nobody"):
        credentials.s3({**home, "AWS_PROFILE": "nobody"})
    if importlib.util.find_spec("boto3") is None:
        with pytest.raises(StoreFault, match="boto3 has to do"):
            credentials.s3({**home, "AWS_PROFILE": "role"})


def test_what_a_store_says_is_not_repeated() -> None:
    said = (
        "Generic S3 error: Error performing GET https://AKID:secret@host/key?X-Amz-Signature=abc in 1ms - Server returned "
        "non-2xx status code: 403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code>"
        "<AWSAccessKeyId>AKID</AWSAccessKeyId></Error>"
    )
    fault = of_error(Exception(said), Address("s3", "shop", "a.png"))
    assert fault.about("s3://shop/a.png") == "s3://shop/a.png may not be read (403 SignatureDoesNotMatch)"
    assert "AKID" not in str(fault)

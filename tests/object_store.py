"""A server of S3 on this machine, for tests that read or write a bucket."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BUCKET = "bucket"


@dataclass(frozen=True)
class Bucket:
    """An empty bucket behind `url` (s3://bucket), and the requests (method, key, Range header) that were made."""

    url: str
    endpoint: str
    client: Any
    requests: list[tuple[str, str, str]]

    def put(self, key: str, content: bytes | str, public: bool = False) -> str:
        """Store an object; only a `public` one can be read without credentials. Returns its URL."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content, ACL="public-read" if public else "private")
        return f"{self.url}/{key}"

    def http(self, url: str) -> str:
        """The http URL of a public object."""
        return url.replace("s3:/", self.endpoint)

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Store all files below a folder; returns the URL of the prefix."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{self.url}/{prefix}"

    def reads(self, key: str) -> list[str]:
        """The Range headers of the requests for the content of an object, "" for the whole object."""
        return [span for method, asked, span in self.requests if method == "GET" and asked == key]


@contextmanager
def serving() -> Iterator[Bucket]:
    """Run the server with one bucket. Environment variables of the process lead to it for as long as it runs."""
    import boto3
    from moto.server import ThreadedMotoServer

    logger = logging.getLogger("werkzeug")  # it writes a line a request
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    requests: list[tuple[str, str, str]] = []
    _record(server, requests)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        forget_connections()
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        try:
            yield Bucket(f"s3://{BUCKET}", endpoint, client, requests)
        finally:
            forget_connections()
            client.close()
            server.stop()
            logger.setLevel(level)


def forget_connections() -> None:
    """Make the next read of S3 look at the environment again."""
    import s3fs

    from dcpipe.store import urls

    s3fs.S3FileSystem.clear_instance_cache()
    urls._s3_access.cache_clear()


def _record(server: Any, requests: list[tuple[str, str, str]]) -> None:
    """Keep what is asked of the server."""
    application = server._server.app

    def recording(environment: dict[str, Any], start_response: Any) -> Any:
        key = environment["PATH_INFO"].removeprefix(f"/{BUCKET}").removeprefix("/")
        requests.append((environment["REQUEST_METHOD"], key, environment.get("HTTP_RANGE", "")))
        return application(environment, start_response)

    server._server.app = recording


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    """A bucket for the tests of one file: a test that uses it stores its objects below a prefix of its own."""
    with serving() as served:
        yield served

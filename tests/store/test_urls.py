"""Reading objects by URL, from a server of S3 on this machine, which answers http too, and from servers that fail."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from object_store import Bucket, forget_connections

from dcpipe.store import urls
from dcpipe.types import DataError

CONTENT = np.random.default_rng(0).bytes(100_000)


@pytest.fixture(scope="module")
def stored(bucket: Bucket) -> str:
    return bucket.put("plain/content.bin", CONTENT, public=True)


@pytest.fixture
def anonymous(bucket: Bucket) -> Iterator[None]:
    """A machine that has no credentials."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            patch.setenv(name, "/nonexistent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        forget_connections()
        yield
    forget_connections()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "PAUSES", (0.0, 0.0))


class Lines(BaseHTTPRequestHandler):
    """A server that ignores ranges; below /fails/N it fails N times with the status of the path, then answers."""

    body = b"0123456789"
    asked: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        parts = self.path.split("/")
        self.asked[self.path] = self.asked.get(self.path, 0) + 1
        if parts[1] == "fails" and self.asked[self.path] <= int(parts[3]):
            self.send_error(int(parts[2]))
            return
        self.send_response(206 if parts[1] == "floods" else 200)
        if parts[1] != "unsized":
            self.send_header("Content-Length", str(len(self.body) * (10**9 if parts[1] == "floods" else 1)))
        self.end_headers()
        with suppress(OSError):  # the reader goes away
            for _ in range(10**9 if parts[1] == "floods" else 1):
                self.wfile.write(self.body)

    def do_HEAD(self) -> None:
        self.send_response(200)
        if "unsized" not in self.path:
            self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Lines.asked.clear()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Lines)
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


def test_urls_are_written_in_one_way() -> None:
    assert urls.checked_url("S3://bucket/Key/") == "s3://bucket/Key"
    assert urls.checked_url("hf://datasets/user/name@v1/file") == "hf://datasets/user/name@v1/file"
    assert urls.checked_url("hf://gpt2@main/file") == "hf://gpt2@main/file"
    assert urls.checked_url("http://localhost:80/x") == "http://localhost:80/x"
    assert urls.checked_url("http://[::1]:80/x") == "http://[::1]:80/x"
    assert urls.checked_url("s3://bucket/hot dog/1 2.png") == "s3://bucket/hot dog/1 2.png"
    assert urls.checked_url("s3://bucket/what?#") == "s3://bucket/what?#"
    assert urls.join("s3://bucket/a/", "b c/d") == "s3://bucket/a/b c/d"
    assert urls.join("https://host/a", "b c/d#") == "https://host/a/b%20c/d%23"


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("file:///tmp/x", "'file:///tmp/x' is no URL that can be read; write s3://, gs://, hf:// or https://, or the"),
        ("ftp://host/x", "is no URL that can be read"),
        ("s3:bucket/x", "is no URL that can be read"),
        (Path("s3://bucket/x"), "'s3:/bucket/x' is no URL that can be read"),
        ("s3://", "'s3://' names no bucket, or has blanks in it; correct the URL"),
        ("s3:///key", "names no bucket"),
        ("https:///x", "names no host"),
        ("s3://buck et/a", "has blanks in it"),
        ("https://host/a b", "has blanks in it"),
        ("s3://bucket/a\nb", "has blanks in it"),
        ("http://example.com/x", "would travel unencrypted, and anybody on the way could change it; write https://"),
        ("http://localhost.example.com/x", "would travel unencrypted"),
        ("https://host/x?token=1", "the URL https://host/x has a query or a fragment after its path"),
    ],
)
def test_other_urls_are_refused(where: str | Path, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        urls.checked_url(where)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "https://user:sesame@host/x",
        "https://sesame@host/x",
        "http://user:sesame@localhost/x",
        "s3://key:sesame@bucket/x",
        "hf://user:sesame@datasets/x",
        "ftp://user:sesame@host/x",
        "https://host/x?signature=sesame",
        "https://host/x#sesame",
    ],
)
def test_secrets_are_refused_and_not_repeated(where: str) -> None:
    with pytest.raises(DataError) as caught:
        urls.stat(where)
    assert "sesame" not in str(caught.value) and "sesame" not in str(caught.value.__cause__)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(scheme: str) -> Any:
        raise ImportError(scheme)

    monkeypatch.setattr(fsspec, "get_filesystem_class", absent)
    for url, sentence in (
        (
            "s3://bucket/x",
            's3://bucket/x is read by the package s3fs, which is not installed; run `pip install "dcpipe',
        ),
        ("gs://bucket/x", 'by the package gcsfs, which is not installed; run `pip install "dcpipe[gs]"`'),
        ("hf://datasets/a/b/x", '`pip install "dcpipe[hf]"`'),
        ("https://host/x", "`pip install aiohttp`"),
    ):
        with pytest.raises(DataError) as caught:
            urls.read(url, 10)
        assert sentence in str(caught.value)


def test_a_range_is_one_request_for_its_bytes(bucket: Bucket, stored: str) -> None:
    bucket.requests.clear()
    assert urls.read_range(stored, 1000, 1010) == CONTENT[1000:1010]
    assert bucket.requests == [("GET", "plain/content.bin", "bytes=1000-1009")]
    assert urls.read_range(stored, 5, 5) == b"" and len(bucket.requests) == 1
    spans = [(0, 1), (99_990, 100_000), (7, 7), (300, 900)]
    assert urls.read_ranges(stored, spans) == [CONTENT[start:stop] for start, stop in spans]
    assert urls.read_ranges(stored, []) == []


def test_http_reads_the_same(bucket: Bucket, stored: str) -> None:
    url = bucket.http(stored)
    bucket.requests.clear()
    assert urls.stat(url).size == len(CONTENT) and urls.stat(url).version == urls.stat(stored).version != ""
    assert urls.read_range(url, 1000, 1010) == CONTENT[1000:1010]
    assert bucket.reads("plain/content.bin") == ["bytes=1000-1009"]
    assert urls.read(url, 100_000) == CONTENT
    with pytest.raises(DataError, match=r"nothing\.bin does not exist; correct the URL"):
        urls.read(url.replace("content", "nothing"), 10)
    with pytest.raises(DataError, match="has no list of its files, because it is https; name one file"):
        urls.list_files(url)


def test_files_are_listed_with_size_and_version(bucket: Bucket) -> None:
    for key in ("list/b", "list/a/c", "list/a/b", "listed"):
        bucket.put(key, key)
    bucket.put("list/marker/", b"")
    files = urls.list_files(f"{bucket.url}/list/")
    assert [file.url for file in files] == [f"{bucket.url}/list/{name}" for name in ("a/b", "a/c", "b")]
    assert [file.size for file in files] == [8, 8, 6]
    assert len({file.version for file in files}) == 3 and urls.stat(files[0].url) == files[0]
    assert urls.list_files(files[0].url) == files[:1]
    bucket.put("list/b", "changed")
    assert urls.list_files(f"{bucket.url}/list")[2].version != files[2].version


def test_a_folder_has_files_and_folders(bucket: Bucket) -> None:
    for key in ("folder/b", "folder/a", "folder/d e/x", "folder/c/x/y", "folder/", "folders/x"):
        bucket.put(key, key)
    for url in (f"{bucket.url}/folder", f"{bucket.url}/folder/"):
        files, folders = urls.list_folder(url)
        assert files == [urls.stat(f"{bucket.url}/folder/{name}") for name in "ab"] and folders == ["c", "d e"]
    assert urls.list_folder(f"{bucket.url}/nowhere") == ([], [])
    with pytest.raises(DataError, match="has no list of its files, because it is https; name one file"):
        urls.list_folder("https://host/folder")


def test_what_is_wrong_is_one_sentence(bucket: Bucket, stored: str) -> None:
    for work, sentence in (
        (lambda: urls.stat(f"{bucket.url}/no"), "s3://bucket/no does not exist; correct the URL"),
        (lambda: urls.read_range("s3://elsewhere/x", 0, 1), "s3://elsewhere/x does not exist"),
        (lambda: urls.list_files(f"{bucket.url}/no"), "there is nothing below s3://bucket/no; correct the URL"),
        (lambda: urls.stat(f"{bucket.url}/plain"), "s3://bucket/plain is a folder; name a file in it"),
        (lambda: urls.read(stored, 99_999), "has 100,000 bytes, but at most 99,999 are read; give another file"),
        (lambda: urls.read_range(stored, 99_999, 100_001), "has only 100,000 bytes where 100,001 were expected"),
    ):
        with pytest.raises(DataError) as caught:
            work()
        assert sentence in str(caught.value)


def test_forbidden_objects_say_how_to_log_in(bucket: Bucket, anonymous: None) -> None:
    private = bucket.put("private", b"content")
    for url, remedy in (
        (private, "set AWS_ACCESS_KEY_ID and"),
        (bucket.http(private), "write the login into ~/.netrc"),
    ):
        with pytest.raises(DataError) as caught:
            urls.read_range(url, 0, 1)
        assert f"no access to {url} (" in str(caught.value) and remedy in str(caught.value)


def test_the_network_gets_more_than_one_chance(server: str, hasty: None) -> None:
    assert urls.read_range(f"{server}/fails/503/2", 0, 10) == Lines.body
    for path, asked in (("/fails/503/9", 3), ("/fails/429/9", 3)):
        with pytest.raises(DataError, match=r"cannot be reached \(\d+, .*\); check the URL and the network, and run"):
            urls.read_range(server + path, 0, 10)
        assert Lines.asked[path] == asked
    for path, sentence in (("/fails/403/9", "no access to"), ("/fails/404/9", "exist"), ("/fails/400/9", "be read")):
        with pytest.raises(DataError, match=sentence):
            urls.read_range(server + path, 0, 10)
        assert Lines.asked[path] == 1


def test_a_server_that_is_not_there_is_named(hasty: None) -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/x cannot be reached"):
        urls.stat("http://127.0.0.1:9/x")


def test_a_request_to_s3_is_repeated_in_one_place(
    server: str, bucket: Bucket, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not by botocore as well, which would wait a minute for a server that is not there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    forget_connections()
    try:
        with pytest.raises(DataError, match="s3://fails/503/9 cannot be reached"):
            urls.read_range("s3://fails/503/9", 0, 10)
    finally:
        monkeypatch.undo()
        forget_connections()
    assert Lines.asked["/fails/503/9"] == 3


def test_a_server_cannot_send_more_than_was_asked(server: str) -> None:
    assert urls.read_range(f"{server}/floods", 2, 7) == b"01234", "the server says that this is the range"
    assert urls.read_range(f"{server}/whole", 0, 7) == b"0123456"
    with pytest.raises(DataError, match="cannot send parts of a file; copy the file to this machine"):
        urls.read_range(f"{server}/whole", 2, 7)
    with pytest.raises(DataError, match="does not say how long it is; copy it to this machine"):
        urls.stat(f"{server}/unsized")


def test_public_buckets_need_no_credentials(stored: str, anonymous: None) -> None:
    assert urls.read_range(stored, 0, 5) == CONTENT[:5]
    assert urls._s3_access()["anon"]


def test_threads_and_forks_read_at_the_same_time(stored: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: urls.read_range(stored, start, start + 100), range(0, 5000, 100)))
    assert b"".join(parts) == CONTENT[:5000]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks where there are threads
        with multiprocessing.get_context("fork").Pool(1) as forked:
            assert forked.apply_async(urls.read_range, (stored, 10, 20)).get(60) == CONTENT[10:20]
    assert pickle.loads(pickle.dumps(urls.stat(stored))) == urls.stat(stored)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(-120_000, 120_000), st.sampled_from([0, 1, 2]), st.integers(-1, 3000))))
def test_an_open_object_is_a_file(stored: str, steps: list[tuple[int, int, int]]) -> None:
    remote, local = urls.open_file(stored, len(CONTENT)), io.BytesIO(CONTENT)
    for offset, whence, length in steps:
        places = []
        for stream in (remote, local):
            try:
                places.append(stream.seek(offset, whence))
            except (OSError, ValueError):
                places.append(-1)
        if whence == 0 or places[0] >= 0:  # BytesIO goes to the start instead of before it, files do not
            assert places[0] == places[1]
        else:
            local.seek(remote.tell())
        assert remote.read(length) == local.read(length) and remote.tell() == local.tell()


def test_pyarrow_reads_only_the_row_groups_that_are_wanted(bucket: Bucket) -> None:
    table = pa.table({"value": np.random.default_rng(1).random(100_000)})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=10_000, compression="none", use_dictionary=False)
    url = bucket.put("rows/table.parquet", sink.getvalue())
    bucket.requests.clear()
    with urls.open_file(url) as stream, pq.ParquetFile(stream) as file:
        assert file.read_row_group(3).equals(table.slice(30_000, 10_000))
    spans = [span.removeprefix("bytes=").split("-") for span in bucket.reads("rows/table.parquet")]
    read = sum(int(last) - int(first) + 1 for first, last in spans)
    assert 80_000 < read < 160_000, "one group of 80 kB and the 64 kB where the footer is, not the 800 kB of the file"

"""Read objects of s3://, gs://, hf:// and https:// addresses, through fsspec.

The functions take URLs as text and keep nothing open, so their arguments pickle, and threads and processes may call
them at the same time: fsspec keeps one file system for a process, and makes a new one after a fork. A range is one
request for exactly its bytes. What the network loses is asked for again a few times; everything else that goes wrong
is a `DataError` that names the URL.

Access is that of each service's own tools: S3 takes `AWS_ACCESS_KEY_ID` and the like, `~/.aws` and `AWS_ENDPOINT_URL`
(and is anonymous where it finds no credentials), Google `GOOGLE_APPLICATION_CREDENTIALS` and gcloud's login, Hugging
Face `HF_TOKEN` or `hf auth login`, https `~/.netrc`; https also uses the proxy of `HTTPS_PROXY`.
"""

from __future__ import annotations

import functools
import io
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from dcpipe.types import DataError, require

Result = TypeVar("Result")

# The package that reads each scheme, and how to install it.
PACKAGES = {
    "s3": ("s3fs", 'pip install "dcpipe[s3]"'),
    "gs": ("gcsfs", 'pip install "dcpipe[gs]"'),
    "hf": ("huggingface_hub", 'pip install "dcpipe[hf]"'),
    "https": ("aiohttp", "pip install aiohttp"),
    "http": ("aiohttp", "pip install aiohttp"),
}
SCHEMES = "s3://, gs://, hf:// or https://"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
ACCESS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`",
    "gs": "run `gcloud auth application-default login`",
    "hf": "run `hf auth login`, and accept the conditions on the page of the repository",
    "https": "write the login into ~/.netrc",
    "http": "write the login into ~/.netrc",
}
PAUSES = (0.2, 1.0, 4.0)  # seconds before each further attempt at what the network lost
CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One object: its URL, its size in bytes, and its ETag, content hash or time of modification, whichever the store
    tells, by which a change is seen; empty if it tells none."""

    url: str
    size: int
    version: str


def checked_url(where: str | Path) -> str:
    """The URL with its scheme in lowercase and without a slash at its end.

    Raises `DataError` if it is none of the known schemes, has a user name or password in it, or names nothing.
    """
    text = str(where)
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    host = rest.split("/")[0]
    # A password is not repeated: an error is shown, logged and pasted into issues.
    secret = "@" in host and (scheme != "hf" or ":" in host)
    require(
        not secret,
        f"the {scheme} URL has a user name or a password before its @, which would end up in logs and parameters; "
        f"remove it, and {ACCESS.get(scheme, 'use the login of the service')}",
    )
    require(
        bool(separator) and scheme in PACKAGES,
        f"{text!r} is no URL that can be read; write {SCHEMES}, or the path of a folder or file",
    )
    require(
        scheme != "http" or urlsplit(text).hostname in LOOPBACK,
        f"{text!r} would travel unencrypted, and anybody on the way could change it; write https://",
    )
    require(
        bool(host) and text.isprintable() and not any(map(str.isspace, text if scheme.startswith("http") else host)),
        f"{text!r} names no {'host' if scheme.startswith('http') else 'bucket'}, or has blanks in it; correct the URL",
    )
    require(
        not scheme.startswith("http") or not re.search(r"[?#]", text),
        f"the URL {text.split('?')[0].split('#')[0]} has a query or a fragment after its path, which may be a "
        "signature that expires; give the URL without it",
    )
    return f"{scheme}://{rest.rstrip('/')}"


def join(url: str, name: str) -> str:
    """The URL of the file `name`, a relative path with slashes, below `url`."""
    return f"{url.rstrip('/')}/{quote(name) if url.startswith('http') else name}"


def stat(url: str) -> RemoteFile:
    """The size and version of one object. Raises `DataError` if there is none, or if its store does not tell sizes."""
    url = checked_url(url)
    return _remote(url, _attempt(url, lambda files: files.info(_path(url))))


def list_files(url: str) -> list[RemoteFile]:
    """All objects below `url`, as below a folder, in the order of their names; the object itself if `url` names one.

    Raises `DataError` if there are none, and for https, which has no list of files.
    """
    url = checked_url(url)
    require(not url.startswith("http"), f"{url} has no list of its files, because it is https; name one file")
    found = _attempt(url, lambda files: files.find(_path(url), detail=True))
    scheme = url.partition("://")[0]
    listed = [_remote(f"{scheme}://{name}", info) for name, info in sorted(found.items()) if not name.endswith("/")]
    require(bool(listed), f"there is nothing below {url}; correct the URL")
    return listed


def list_folder(url: str) -> tuple[list[RemoteFile], list[str]]:
    """The objects directly in the folder `url`, and the names of the folders in it, both in order; none if there is no
    such folder.

    Raises `DataError` for https, which has no list of files.
    """
    url = checked_url(url)
    require(not url.startswith("http"), f"{url} has no list of its files, because it is https; name one file")
    found = _attempt(url, lambda files: _entries(files, _path(url)))
    scheme = url.partition("://")[0]
    files, folders = [], []
    for info in sorted(found, key=lambda info: str(info["name"])):
        where = f"{scheme}://{info['name']}".rstrip("/")
        if info.get("type") == "directory":
            folders.append(where.rpartition("/")[2])
        elif where != url:  # some stores have an empty object of the name of the folder
            files.append(_remote(where, info))
    return files, folders


def read(url: str, limit: int) -> bytes:
    """A whole object. Raises `DataError` if it has more than `limit` bytes."""
    size = stat(url).size
    require(size <= limit, f"{url} has {size:,} bytes, but at most {limit:,} are read; give another file")
    return read_range(url, 0, size)


def read_range(url: str, start: int, stop: int) -> bytes:
    """The bytes [start, stop) of an object, by one request that reads nothing else.

    Raises `DataError` if the object ends before `stop`.
    """
    url = checked_url(url)
    if stop <= start:
        return b""
    content = _attempt(url, lambda files: _fetch(files, url, start, stop))
    require(
        len(content) == stop - start,
        f"{url} has only {start + len(content):,} bytes where {stop:,} were expected; it has changed, so start again",
    )
    return content


def read_ranges(url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of each range [start, stop), several requests at a time, in the order of `ranges`."""
    with ThreadPoolExecutor(max_workers=max(1, min(CONNECTIONS, len(ranges)))) as pool:
        return list(pool.map(lambda bounds: read_range(url, *bounds), ranges))


def open_file(url: str, size: int | None = None) -> OpenRemote:
    """An open object for pyarrow, tarfile and the like, which reads exactly what it is asked for.

    `size` in bytes, if it is already known, saves a request.
    """
    return OpenRemote(url, stat(url).size if size is None else size)


class OpenRemote(io.RawIOBase):
    """The bytes of one object as a seekable file, without any buffer. It holds no connection."""

    def __init__(self, url: str, size: int) -> None:
        super().__init__()
        self.url, self.size = checked_url(url), size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        if origin + offset < 0:
            raise OSError(EINVAL, f"cannot seek before the start of {self.url}")
        self._place = origin + offset
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self.size - self._place)
        length = left if size is None or size < 0 else min(size, left)
        content = read_range(self.url, self._place, self._place + length)
        self._place += length
        return content

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _file_system(url: str) -> Any:
    """The fsspec file system of a URL, which fsspec keeps for this process. Listings are not kept: what is read is what
    is there now."""
    scheme = url.partition("://")[0]
    package, install = PACKAGES[scheme]
    try:
        import fsspec

        found: Any = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise DataError(f"{url} is read by the package {package}, which is not installed; run `{install}`") from error
    if scheme == "s3":
        return found(use_listings_cache=False, **_s3_access())
    if scheme in ("http", "https"):
        return found(client_kwargs={"trust_env": True})
    return found(use_listings_cache=False)


@functools.cache
def _s3_access() -> dict[str, Any]:
    """How s3fs is opened, where fsspec's configuration does not say otherwise.

    Access is anonymous if this machine has no credentials, because public buckets need none, and s3fs would refuse. A
    request is retried here and by s3fs; if botocore did so too, a server that is not there would take a minute to name.
    """
    import botocore.session
    from fsspec.config import conf

    given = conf.get("s3", {}).keys()
    once = {} if "config_kwargs" in given else {"config_kwargs": {"retries": {"max_attempts": 0}}}
    if given & {"anon", "key", "secret", "token", "profile"}:
        return once
    return once if botocore.session.Session().get_credentials() is not None else {"anon": True, **once}


def _entries(files: Any, path: str) -> list[dict[str, Any]]:
    """What is directly in a folder."""
    try:
        return list(files.ls(path, detail=True))
    except FileNotFoundError:
        return []


def _path(url: str) -> str:
    """What fsspec calls the object: https keeps its scheme."""
    return url if url.startswith("http") else url.partition("://")[2]


def _remote(url: str, info: dict[str, Any]) -> RemoteFile:
    require(info.get("type") != "directory", f"{url} is a folder; name a file in it")
    size = info.get("size")
    require(isinstance(size, int), f"the server of {url} does not say how long it is; copy it to this machine")
    keys = ("ETag", "etag", "blob_id", "md5Hash", "LastModified", "Last-Modified", "mtime", "updated")
    version = next((str(info[key]) for key in keys if info.get(key)), "")
    return RemoteFile(url, int(size or 0), version.strip('"'))


def _fetch(files: Any, url: str, start: int, stop: int) -> bytes:
    """The bytes [start, stop), or fewer if the object ends before."""
    if url.startswith("http"):
        return _fetch_http(files, url, start, stop)
    # The file of Hugging Face reads ahead unless told not to, and asks for the size unless it is given.
    options = {"cache_type": "none", "size": stop} if url.startswith("hf:") else {}
    return bytes(files.cat_file(_path(url), start=start, end=stop, **options))


def _fetch_http(files: Any, url: str, start: int, stop: int) -> bytes:
    """Any server may answer: one that ignores the range, or sends more than was asked, cannot fill the memory."""
    headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    with files.open(url, block_size=0, size=stop, headers=headers) as stream:
        require(
            stream.r.status == 206 or start == 0,
            f"the server of {url} cannot send parts of a file; copy the file to this machine",
        )
        chunks, left = [], stop - start
        while left and (chunk := stream.read(left)):
            chunks.append(chunk)
            left -= len(chunk)
    return b"".join(chunks)


def _attempt(url: str, work: Callable[[Any], Result]) -> Result:
    """The result of `work` on the file system of `url`; it is tried again if the network is the reason to fail."""
    files = _file_system(url)
    for pause in (*PAUSES, None):
        try:
            return work(files)
        except DataError:
            raise
        except Exception as error:  # each service has errors of its own, and many are no OSError
            if pause is not None and _explanation(url, error) is None:
                time.sleep(pause)
                continue
            raise DataError(sentence(url, error)) from error
    raise AssertionError  # the last attempt returns or raises


def sentence(url: str, error: Exception) -> str:
    """What an error of a store's client means, in one sentence."""
    lost = f"{url} cannot be reached ({_reason(error)}); check the URL and the network, and run again"
    return _explanation(url, error) or lost


def _explanation(url: str, error: Exception) -> str | None:
    """One sentence about an error that would come again; None if another attempt may succeed."""
    scheme = url.partition("://")[0]
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception) and scheme.startswith("http"):
        error = error.__cause__  # to fsspec, whatever goes wrong in asking for a size is a missing file
    response = getattr(error, "response", None)
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return f"{url} does not exist; correct the URL"
    if isinstance(error, PermissionError) or status in (401, 403) or type(error).__name__ == "NoCredentialsError":
        return f"no access to {url} ({_reason(error)}); {ACCESS[scheme]}"
    refused = isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)
    if refused or isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno == EINVAL):
        return f"{url} cannot be read ({_reason(error)}); correct the URL"
    return None


def _reason(error: Exception) -> str:
    """The first line of an error, not too long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")

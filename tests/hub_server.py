"""A server of the Hugging Face Hub's HTTP interface on this machine, as far as pushing and reading a dataset need."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

TOKEN = "hf_secretOfTheTests"
REPOSITORY = r"(?P<id>[^/]+/[^/]+)"


@dataclass
class Hub:
    """Repositories of datasets, id -> path -> content; what was asked, as "METHOD /path"; private ones; commits."""

    endpoint: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self._answer(body)

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        path = unquote(self.path.split("?")[0])
        self.hub.asked.append(f"{self.command} {path}")
        allowed = self.headers["Authorization"] == f"Bearer {TOKEN}"
        if path == "/api/validate-yaml":
            return self._send({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            if not allowed:
                return self._send({"error": "Invalid username or password."}, 401)
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in self.hub.repositories
            self.hub.repositories.setdefault(name, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.hub.private.add(name)
            return self._send({"url": f"{self.hub.endpoint}/datasets/{name}"}, 409 if known else 200)
        found = re.fullmatch(rf"(?:/api)?/datasets/{REPOSITORY}(?:/(?P<what>[a-z-]+)(?:/(?P<rest>.*))?)?", path)
        name = found["id"] if found else ""
        if name not in self.hub.repositories or (name in self.hub.private and not allowed):
            return self._send({"error": "Repository not found"}, 401, RepoNotFound="")
        assert found is not None
        files, what = self.hub.repositories[name], found["what"] or ""
        file = (found["rest"] or "").partition("/")[2]  # after the revision
        if what == "preupload":
            asked = [{"path": each["path"], "uploadMode": "regular"} for each in json.loads(body)["files"]]
            return self._send({"files": [each | {"shouldIgnore": False} for each in asked]})
        if what == "commit":
            return self._commit(name, body) if allowed else self._send({"error": "Forbidden"}, 403)
        if what == "paths-info":
            return self._send([self._info(path, files[path]) for path in json.loads(body)["paths"] if path in files])
        if what == "resolve":
            return self._resolve(files, file)
        if what in ("", "revision"):
            return self._send({"id": name, "sha": "0" * 40, "siblings": [{"rfilename": path} for path in files]})
        return self._send([self._info(path, content) for path, content in files.items()])

    def _commit(self, name: str, body: bytes) -> None:
        files = self.hub.repositories[name]
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "header":
                self.hub.commits.append(entry["value"]["summary"])
            else:
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        page = f"{self.hub.endpoint}/datasets/{name}/commit/{'0' * 40}"
        self._send({"success": True, "commitOid": "0" * 40, "commitUrl": page})

    def _resolve(self, files: dict[str, bytes], name: str) -> None:
        if name not in files:
            return self._send({"error": "Entry not found"}, 404)
        content = files[name]
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
        part = content[int(span[1]) : int(span[2]) + 1] if span else content
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{len(content)}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(part)
        return None

    def _info(self, path: str, content: bytes) -> dict[str, Any]:
        return {"type": "file", "path": path, "size": len(content), "oid": f"{len(content):040d}"}

    def _send(self, content: Any, status: int = 200, **headers: str) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for header, value in headers.items():
            self.send_header("X-Error-Code", header) if not value else self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Hub]:
    """Run the server; the clients of this process talk to it, without any token."""
    from huggingface_hub import HfFileSystem, constants

    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.endpoint)
        patch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        patch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            patch.delenv(name, raising=False)
        HfFileSystem.clear_instance_cache()
        try:
            yield hub
        finally:
            HfFileSystem.clear_instance_cache()
            server.shutdown()
            thread.join()
            server.server_close()

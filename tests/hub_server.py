"""An HTTP server with the part of the Hugging Face hub that uploads and reads data sets.

Uploaded are small files in the commit, large or binary ones by Git LFS before it. What is read are folders, each at
one commit (`COMMIT`): `serve("datasets", "me/texts", folder)`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c" * 40


class HubServer:
    """A hub on loopback. It records `files` by path once they are committed, `messages` of commits, `tokens`."""

    def __init__(self, refuse: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.tokens: set[str] = set()
        self.asked: list[str] = []
        self._objects: dict[str, bytes] = {}
        self._folders: dict[str, Path] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.asked.append(self.path)
                asked = urlsplit(self.path)
                if (file := server._file(asked.path)) is not None:
                    return self._send(file)
                reported = server._info(unquote(asked.path), "recursive=true" in asked.query.lower())
                self._answer(404 if reported is None else 200, reported or {"error": "not found"})

            do_HEAD = do_GET  # noqa: N815 - the base class's name

            def do_PUT(self) -> None:
                server._objects[self.path.rpartition("/")[2]] = self._body()
                self._answer(200, {})

            def do_POST(self) -> None:
                body = self._body()
                server.tokens.add(self.headers.get("Authorization", ""))
                if refuse:
                    self._answer(403, {"error": "you may not write here"})
                else:
                    self._answer(200, server._post(self.path, body))

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def _send(self, file: Path) -> None:
                content = file.read_bytes()
                headers = {
                    "ETag": f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"',
                    "X-Repo-Commit": COMMIT,
                }
                begin, end = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-")).groups()  # type: ignore[union-attr]
                part = content[int(begin) : int(end) + 1 if end else None]
                headers["Content-Range"] = f"bytes {begin}-{int(begin) + len(part) - 1}/{len(content)}"
                self._write(206 if "Range" in self.headers else 200, part, headers)

            def _answer(self, status: int, answer: Any) -> None:
                missing = {"X-Error-Code": "EntryNotFound"} if status == 404 else {}
                self._write(status, json.dumps(answer).encode(), {"Content-Type": "application/json", **missing})

            def _write(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def serve(self, kind: Literal["datasets", "models"], name: str, folder: Path) -> None:
        """Let a repository be read, at `COMMIT` and as `main`."""
        self._folders[f"{kind}/{name}"] = folder

    def _file(self, path: str) -> Path | None:
        """Of `/datasets/OWNER/NAME/resolve/REVISION/PATH`; a model's address is without its kind."""
        found = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if found is None or found[3] not in (COMMIT, "main"):
            return None
        folder = self._folders.get(f"{found[1] or 'models/'}{found[2]}")
        file = folder / found[4] if folder else None
        return file if file is not None and file.is_file() else None

    def _info(self, path: str, recursive: bool) -> Any | None:
        """Of `/api/datasets/OWNER/NAME[/revision/REVISION]` or `.../tree/REVISION[/PATH]`."""
        found = re.fullmatch(r"/api/((?:datasets|models)/[^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?", path)
        folder = self._folders.get(found[1]) if found else None
        if found is None or folder is None or (found[3] or "main") not in (COMMIT, "main"):
            return None
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        if found[2] == "tree":
            below = folder / (found[4] or "")
            if not below.is_dir():
                return None
            return [self._entry(found, folder) for found in sorted(below.rglob("*") if recursive else below.glob("*"))]
        siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in files]
        return {"id": found[1].partition("/")[2], "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}

    def _entry(self, file: Path, folder: Path) -> dict[str, Any]:
        if file.is_dir():
            return {"type": "directory", "path": file.relative_to(folder).as_posix(), "oid": "0" * 40, "size": 0}
        size, oid = file.stat().st_size, hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
        return {"type": "file", "path": file.relative_to(folder).as_posix(), "size": size, "oid": oid}

    def _post(self, path: str, body: bytes) -> Any:
        if found := re.fullmatch(r"/api/((?:datasets|models)/[^/]+/[^/]+)/paths-info/[^/]+", path):
            folder = self._folders[found[1]]
            asked = parse_qs(body.decode()).get("paths", []) if not body.startswith(b"{") else json.loads(body)["paths"]
            return [self._entry(folder / name, folder) for name in asked if (folder / name).exists()]
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.url}/datasets/me/problems", "id": "me/problems"}
        if path.startswith("/api/validate-yaml"):
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".parquet") else "regular"} for f in files
            ]
            return {"files": [{**mode, "shouldIgnore": False, "oid": None} for mode in modes]}
        if path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(body)["objects"]
            upload = [{**o, "actions": {"upload": {"href": f"{self.url}/lfs/{o['oid']}"}}} for o in asked]
            return {"transfer": "basic", "objects": upload}
        if "/commit/" in path:
            return self._commit(body)
        return {}

    def _commit(self, body: bytes) -> Any:
        for line in map(json.loads, body.decode().splitlines()):
            reported = line["value"]
            if line["key"] == "header":
                self.messages.append(reported["summary"])
            elif line["key"] == "file":
                self.files[reported["path"]] = base64.b64decode(reported["content"])
            elif line["key"] == "lfsFile":
                content = self._objects[reported["oid"]]
                if hashlib.sha256(content).hexdigest() == reported["oid"]:
                    self.files[reported["path"]] = content
        oid = "a" * 40
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.url}/datasets/me/problems/commit/{oid}"}


@contextmanager
def hub_server(refuse: bool = False) -> Iterator[HubServer]:
    server = HubServer(refuse)
    try:
        yield server
    finally:
        server.close()

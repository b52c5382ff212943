"""As much of the Hugging Face hub as its client needs to upload a data set: a real HTTP server on loopback.

Small files come in the commit, large or binary ones by Git LFS before it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HubServer:
    """What it was sent: `files` by path once they are committed, `messages` of commits, `tokens`."""

    def __init__(self, refuse: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.tokens: set[str] = set()
        self._objects: dict[str, bytes] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._answer(404, {})

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

            def _answer(self, status: int, answer: Any) -> None:
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _post(self, path: str, body: bytes) -> Any:
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
            told = line["value"]
            if line["key"] == "header":
                self.messages.append(told["summary"])
            elif line["key"] == "file":
                self.files[told["path"]] = base64.b64decode(told["content"])
            elif line["key"] == "lfsFile":
                content = self._objects[told["oid"]]
                if hashlib.sha256(content).hexdigest() == told["oid"]:
                    self.files[told["path"]] = content
        oid = "a" * 40
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.url}/datasets/me/problems/commit/{oid}"}


@contextmanager
def hub_server(refuse: bool = False) -> Iterator[HubServer]:
    server = HubServer(refuse)
    try:
        yield server
    finally:
        server.close()

"""The Batch API of the chaos server: files, batches and their states, kept in memory."""

from __future__ import annotations

import hashlib
import json
import re
import time
from typing import Any


class Batches:
    """Uploaded files and submitted batches by id."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.uploads = 0

    def stats(self) -> dict[str, int]:
        lines = [len(self.files[batch["input_file_id"]].splitlines()) for batch in self.batches.values()]
        return {"uploads": self.uploads, "submitted": len(self.batches), "lines": sum(lines)}

    def route(self, method: str, path: str, head: bytes, body: bytes, state: Any) -> bytes | None:
        """The reply's body; None where there is nothing at this path."""
        parts = path.strip("/").split("/")[1:]  # without /v1
        match method, parts:
            case "POST", ["files"]:
                return self.upload(head, body)
            case "GET", ["files", file_id, "content"]:
                return self.files.get(file_id)
            case "POST", ["batches"]:
                return self.submit(json.loads(body))
            case "GET", ["batches"]:
                return json.dumps({"data": list(self.batches.values()), "has_more": False}).encode()
            case "GET", ["batches", batch_id] if batch_id in self.batches:
                return self.show(self.batches[batch_id], state)
            case "POST", ["batches", batch_id, "cancel"] if batch_id in self.batches:
                self.batches[batch_id]["status"] = "cancelled"
                return self.show(self.batches[batch_id], state)
            case _:
                return None

    def upload(self, head: bytes, body: bytes) -> bytes:
        found = re.search(rb'boundary="?([^"\r\n;]+)', head)
        assert found is not None
        for part in body.split(b"--" + found[1]):
            headers, _, content = part.partition(b"\r\n\r\n")
            if b'name="file"' in headers:
                self.uploads += 1
                file_id = f"file-{self.uploads}"
                self.files[file_id] = content.removesuffix(b"\r\n")
                return json.dumps({"id": file_id, "object": "file", "bytes": len(content), "purpose": "batch"}).encode()
        raise AssertionError("no file in the upload")

    def submit(self, body: dict[str, Any]) -> bytes:
        assert body["endpoint"] == "/v1/chat/completions"
        assert body["completion_window"] == "24h"
        batch = {
            "id": f"batch-{len(self.batches) + 1}",
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "status": "validating",
            "submitted": time.monotonic(),
            "metadata": body.get("metadata"),
        }
        self.batches[batch["id"]] = batch
        return json.dumps(batch).encode()

    def show(self, batch: dict[str, Any], state: Any) -> bytes:
        age = time.monotonic() - batch["submitted"]
        if batch["status"] == "validating" and age > state.chaos.batch_s / 4:
            batch["status"] = "in_progress"
        if batch["status"] == "in_progress" and age > state.chaos.batch_s:
            self.finish(batch, state)
        return json.dumps(batch).encode()

    def finish(self, batch: dict[str, Any], state: Any) -> None:
        from chaos_server import answer  # pyright: ignore[reportMissingImports]

        done, failed = [], []
        lines = self.files[batch["input_file_id"]].splitlines()
        expire_after = state.chaos.batch_expire_after
        for number, line in enumerate(lines):
            row = json.loads(line)
            base = {"id": f"r-{number}", "custom_id": row["custom_id"]}
            if 0 <= expire_after <= number:
                said = {
                    "code": "batch_expired",
                    "message": "This request could not be executed before the window ended.",
                }
                failed.append({**base, "response": None, "error": said})
                continue
            text = json.dumps(row["body"]).encode()
            mark = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
            state.asked[mark] += 1
            if state.chaos.batch_fail and state.chaos.batch_fail in text.decode():
                said = {"error": {"message": state.chaos.batch_fail_message, "code": state.chaos.batch_fail_code}}
                status = state.chaos.batch_fail_status
                failed.append(
                    {**base, "response": {"status_code": status, "request_id": "x", "body": said}, "error": None}
                )
                continue
            state.answered[mark] += 1
            body = answer(state, row["body"], mark)
            done.append({**base, "response": {"status_code": 200, "request_id": "x", "body": body}, "error": None})
        done.reverse()  # the order of the output is nobody's promise
        for name, rows in (("output_file_id", done), ("error_file_id", failed)):
            if rows:
                file_id = f"file-{batch['id']}-{name}"
                self.files[file_id] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
                batch[name] = file_id
        batch["status"] = "expired" if 0 <= expire_after < len(lines) else "completed"
        batch["request_counts"] = {"total": len(lines), "completed": len(done), "failed": len(failed)}

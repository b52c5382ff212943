"""An HTTP server on loopback with the part of W&B's API that a stage's run uses.

It answers GraphQL by the name of the operation. `outage` is how it goes away: it refuses connections, answers 503, or
takes requests and says nothing.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

ENTITY = "someone"
_WHEN = "2026-01-01T00:00:00Z"
Outage = Literal["cut", "503", "hang"]


class WandbServer:
    """Everything it was sent: `runs` by id, `history` lines by run, `artifacts` by name, `edges` (artifact, run)."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.artifacts: dict[str, list[dict[str, Any]]] = {}
        self.edges: set[tuple[str, str]] = set()
        self.refused = 0  # requests that came while it was away
        self.outage: Outage | None = None
        self.up_again = threading.Event()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._answer({})

            def do_PUT(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self._is_away():
                    return
                with server._lock:
                    if self.path == "/graphql":
                        asked = json.loads(body)
                        answer: Any = {"data": server._graphql(asked["query"], asked.get("variables") or {})}
                    else:
                        answer = server._stream(self.path, body)
                self._answer(answer)

            def _is_away(self) -> bool:
                server.refused += server.outage is not None
                if server.outage == "cut":
                    self.close_connection = True
                elif server.outage == "503":
                    self.send_error(503)
                elif server.outage == "hang":
                    server.up_again.wait(120)
                    self.close_connection = True
                return server.outage is not None

            def _answer(self, answer: Any) -> None:
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._http = _Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.up_again.set()
        self._http.shutdown()
        self._http.server_close()

    def _stream(self, path: str, body: bytes) -> Any:
        """Of `/files/ENTITY/PROJECT/RUN/file_stream`: lines of the history, the summary, the end."""
        found = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path)
        if found:
            sent = json.loads(body)
            reported = sent.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
            lines = self.history.setdefault(found[1], [])
            lines[reported["offset"] : reported["offset"] + len(reported["content"])] = map(
                json.loads, reported["content"]
            )
            for line in sent.get("files", {}).get("wandb-summary.json", {}).get("content", []):
                self.runs[found[1]].setdefault("summary", {}).update(json.loads(line))
            if sent.get("complete"):
                self.runs[found[1]]["exit_code"] = sent.get("exitcode")
        return {"exitcode": None, "limits": {}}

    def _graphql(self, query: str, given: dict[str, Any]) -> Any:
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", operation[1]).lower() if operation else ""
        answer = getattr(self, f"_on_{name}", None)

        return answer(given) if answer else {}

    def _on_viewer(self, _: dict[str, Any]) -> Any:
        viewer = {"id": "u", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer}

    _on_get_default_entity = _on_viewer

    def _on_upsert_bucket(self, given: dict[str, Any]) -> Any:
        known = self.runs.setdefault(given["name"], {})
        known.update({key: value for key, value in given.items() if value is not None})
        return {
            "upsertBucket": {
                "bucket": {
                    "id": f"id-{given['name']}",
                    "name": given["name"],
                    "displayName": known.get("displayName"),
                    "description": None,
                    "config": known.get("config", "{}"),
                    "sweepName": None,
                    "project": {"id": "p", "name": given["project"], "entity": {"id": "e", "name": ENTITY}},
                    "historyLineCount": 0,
                },
                "inserted": True,
            }
        }

    def _on_run_resume_status(self, given: dict[str, Any]) -> Any:
        known, lines = self.runs.get(given["name"]), self.history.get(given["name"], [])
        bucket = known and {
            "id": f"id-{given['name']}",
            "name": given["name"],
            "summaryMetrics": json.dumps(known.get("summary", {})),
            "displayName": known.get("displayName"),
            "logLineCount": 0,
            "historyLineCount": len(lines),
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(line) for line in lines[-1:]]),
            "eventsTail": "[]",
            "config": known.get("config", "{}"),
            "tags": known.get("tags") or [],
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {"id": "p", "name": given["project"], "entity": {"id": "e", "name": ENTITY}, "bucket": bucket}}

    def _on_run(self, given: dict[str, Any]) -> Any:
        known = self.runs.get(given["name"])
        run = known and {
            "id": f"id-{given['name']}",
            "projectId": "1",
            "tags": [],
            "name": given["name"],
            "displayName": known.get("displayName"),
            "sweepName": None,
            "state": "finished",
            "config": "{}",
            "group": known.get("groupName"),
            "jobType": known.get("jobType"),
            "commit": None,
            "readOnly": False,
            "createdAt": _WHEN,
            "heartbeatAt": _WHEN,
            "description": None,
            "notes": None,
            "systemMetrics": "{}",
            "summaryMetrics": "{}",
            "historyLineCount": len(self.history.get(given["name"], [])),
            "user": {"name": ENTITY, "username": ENTITY},
            "historyKeys": None,
        }
        return {"project": {"run": run}}

    def _on_create_run_files(self, given: dict[str, Any]) -> Any:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _on_create_artifact(self, given: dict[str, Any]) -> Any:
        asked = given["input"]
        name, run = asked["artifactCollectionName"], asked["runName"]
        versions = self.artifacts.setdefault(name, [])
        versions.append({**asked, "id": f"{name}:v{len(versions)}", "state": "PENDING", "run": run})
        return {
            "createArtifact": {
                "artifact": {
                    "id": versions[-1]["id"],
                    "state": "PENDING",
                    "artifactSequence": {
                        "id": f"id-{name}",
                        "latestArtifact": {"id": versions[-1]["id"], "versionIndex": 0},
                    },
                }
            }
        }

    def _on_create_artifact_manifest(self, given: dict[str, Any]) -> Any:
        file = {"id": "f", "name": "manifest", "uploadUrl": f"{self.url}/upload/manifest", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"m-{given['artifactID']}", "file": file}}}

    _on_update_artifact_manifest = _on_create_artifact_manifest

    def _on_create_artifact_files(self, given: dict[str, Any]) -> Any:
        def node(file: dict[str, Any]) -> dict[str, Any]:
            artifact = {"id": file["artifactID"]}
            return {
                "id": "f",
                "name": file["name"],
                "displayName": None,
                "uploadUrl": f"{self.url}/upload/{file['name']}",
                "uploadHeaders": [],
                "storagePath": None,
                "uploadMultipartUrls": None,
                "artifact": artifact,
            }

        edges = [{"node": node(file)} for file in given["input"]["artifactFiles"]]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_commit_artifact(self, given: dict[str, Any]) -> Any:
        made = self._artifact(given["artifactID"])
        made["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": made["id"], "digest": made["digest"]}}}

    def _on_use_artifact(self, given: dict[str, Any]) -> Any:
        self.edges.add((given["artifactID"], given["runName"]))
        return {"useArtifact": {"artifact": {"id": given["artifactID"]}}}

    def _on_artifact_type(self, given: dict[str, Any]) -> Any:
        made = self._named(given["name"])
        return {"project": {"artifact": made and {"artifactType": {"name": made["artifactTypeName"]}}}}

    def _on_artifact_membership_by_name(self, given: dict[str, Any]) -> Any:
        made = self._named(given["name"])
        return {"project": {"artifactCollectionMembership": made and self._membership(made)}}

    def _artifact(self, id_: str) -> dict[str, Any]:
        return next(made for made in self.artifacts[id_.partition(":")[0]] if made["id"] == id_)

    def _named(self, name: str) -> dict[str, Any] | None:
        collection, _, alias = name.partition(":")
        for made in reversed(self.artifacts.get(collection, [])):
            if made["state"] == "COMMITTED" and alias in [each["alias"] for each in made["aliases"]]:
                return made
        return None

    def _membership(self, made: dict[str, Any]) -> Any:
        entity = {"name": ENTITY}
        project = {"id": "cDox", "internalId": "UHJvamVjdDox", "name": made["projectName"], "entity": entity}
        collection = {"__typename": "ArtifactSequence", "name": made["artifactCollectionName"], "project": project}
        artifact = {
            "__typename": "Artifact",
            "id": made["id"],
            "artifactSequence": collection,
            "versionIndex": 0,
            "artifactType": {"name": made["artifactTypeName"]},
            "description": None,
            "metadata": made["metadata"],
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": made["state"],
            "size": 0,
            "digest": made["digest"],
            "digestAlgorithm": None,
            "commitHash": None,
            "fileCount": 1,
            "createdAt": _WHEN,
            "updatedAt": _WHEN,
            "aliases": [],
        }
        return {
            "__typename": "ArtifactCollectionMembership",
            "id": f"membership-{made['id']}",
            "versionIndex": 0,
            "createdAt": _WHEN,
            "aliases": [],
            "artifactCollection": collection,
            "artifact": artifact,
        }


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that are gone, because tests kill them."""


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    server = WandbServer()
    try:
        yield server
    finally:
        server.close()

"""A small stand-in for the Hugging Face Hub: the endpoints that huggingface_hub uses, over a dictionary of files."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

__all__ = ["LocalHub", "serve"]

COMMIT = "a" * 40


class LocalHub:
    """What the server holds and was asked.

    Attributes:
        repos: id -> name -> content.
        requests: "METHOD path" of each request.
        private: ids of the repositories that were made private.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.private: list[str] = []
        self.address = ""


@contextmanager
def serve() -> Iterator[LocalHub]:
    """A server on a free local port for as long as the context lasts."""
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: LocalHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def json(self, value: Any, status: int = 200) -> None:
            self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

        def missing(self) -> None:
            self.answer(404, b'{"error": "Repository not found"}', X_Error_Code="RepoNotFound")

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def route(self) -> None:
            path = self.path.split("?")[0]
            hub.requests.append(f"{self.command} {path}")
            for pattern, method in ROUTES:
                if match := re.fullmatch(pattern, f"{self.command} {path}"):
                    method(self, *match.groups())
                    return
            self.answer(404)

        do_GET = do_HEAD = do_POST = do_PUT = route

        def info(self, repo: str, _revision: str | None = None) -> None:
            if repo not in hub.repos:
                return self.missing()
            files = [{"rfilename": name} for name in hub.repos[repo]]
            return self.json(
                {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": files, "private": False, "tags": []}
            )

        def tree(self, repo: str, _revision: str) -> None:
            files = hub.repos.get(repo, {})
            self.json([{"type": "file", "path": n, "size": len(d), "oid": _sha1(d)} for n, d in files.items()])

        def resolve(self, repo: str, _revision: str, name: str) -> None:
            if name not in hub.repos.get(repo, {}):
                return self.answer(404, X_Error_Code="EntryNotFound")
            data = hub.repos[repo][name]
            return self.answer(
                200, data, ETag=f'"{_hash(name, data)}"', X_Repo_Commit=COMMIT, Content_Length=str(len(data)),
            )  # fmt: skip

        def create(self) -> None:
            asked = json.loads(self.body())
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if repo in hub.repos:
                return self.json({"error": "exists", "url": f"{hub.address}/{repo}"}, 409)
            hub.repos[repo] = {}
            if asked.get("private") or asked.get("visibility") == "private":
                hub.private.append(repo)
            return self.json({"url": f"{hub.address}/{repo}", "name": repo, "id": repo})

        def preupload(self, _repo: str, _revision: str) -> None:
            files = json.loads(self.body())["files"]
            mode = {True: "lfs", False: "regular"}
            self.json({"files": [
                {"path": f["path"], "uploadMode": mode[f["path"].endswith("safetensors")], "shouldIgnore": False}
                for f in files
            ]})  # fmt: skip

        def batch(self, _repo: str) -> None:
            objects = json.loads(self.body())["objects"]
            self.json({"transfer": "basic", "objects": [
                {"oid": o["oid"], "size": o["size"], "actions": {"upload": {"href": f"{hub.address}/blob/{o['oid']}"}}}
                for o in objects
            ]})  # fmt: skip

        def blob(self, oid: str) -> None:
            hub.blobs[oid] = self.body()
            self.answer(200)

        def commit(self, repo: str, _revision: str) -> None:
            for line in self.body().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    hub.repos[repo][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "lfsFile":
                    hub.repos[repo][entry["value"]["path"]] = hub.blobs[entry["value"]["oid"]]
            self.json({"commitUrl": f"{hub.address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT, "success": True})

        def yaml(self) -> None:
            self.body()
            self.json({"errors": [], "warnings": []})

    routes: list[tuple[str, Any]] = [
        (r"GET /api/models/([^/]+/[^/]+)", Handler.info),
        (r"GET /api/models/([^/]+/[^/]+)/revision/(.+)", Handler.info),
        (r"GET /api/models/([^/]+/[^/]+)/tree/([^/]+)", Handler.tree),
        (r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)", Handler.resolve),
        (r"POST /api/repos/create", Handler.create),
        (r"POST /api/models/([^/]+/[^/]+)/preupload/(.+)", Handler.preupload),
        (r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.batch),
        (r"PUT /blob/(\w+)", Handler.blob),
        (r"POST /api/models/([^/]+/[^/]+)/commit/(.+)", Handler.commit),
        (r"POST /api/validate-yaml", Handler.yaml),
    ]
    ROUTES = routes
    return Handler


def _hash(name: str, data: bytes) -> str:
    """As the Hub has it: SHA-256 of large files, git's of small ones."""
    if name.endswith(".safetensors"):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()

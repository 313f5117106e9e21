"""A stand-in for the HuggingFace Hub: the part of its interface that pushing, pulling and loading an adapter uses.

Run as a process of its own: ``python hub_server.py``; it prints its port. It knows two accounts, by their tokens, and
keeps repositories in memory. Written after the client's requests (huggingface_hub 2.4) and the Hub's documentation:
accounts, repositories, branches, commits with a parent, uploads through Git LFS, downloads with the Hub's headers. What
it does not have is the Xet transfer, which the Hub offers beside LFS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKENS = {"hf_good": "tester", "hf_other": "stranger", "hf_reader": "reader"}
READ_ONLY = {"reader"}
LARGE = (".safetensors", ".zip")
BASE_MODEL = re.compile(r"^[\w.-]+(/[\w.-]+)?$")


@dataclass
class Repository:
    """Branches, and commits with the whole content of each."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, tuple[bytes, bool]], message: str) -> str:
        content = repr((len(self.commits), sorted(files))).encode()
        oid = hashlib.sha1(content).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        self.messages.append(message)
        return oid


class Failure(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        self.status, self.message, self.code = status, message, code


class Hub(ThreadingHTTPServer):
    """The server, and what it stores."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.meddle = False  # commit something of another's before the next commit

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, method: str) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            self.body = b"".join(parts)
        else:
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        try:
            with self.server.lock:
                for verbs, pattern, name in ROUTES:
                    match = re.fullmatch(pattern, path)
                    if method in verbs and match:
                        getattr(self, name)(*map(unquote, match.groups()))
                        return
            raise Failure(404, f"no route for {method} {path}")
        except Failure as failure:
            headers = {"X-Error-Message": failure.message}
            if failure.code:
                headers["X-Error-Code"] = failure.code
            self._answer(failure.status, {"error": failure.message}, headers)

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        fields = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        for name, text in fields.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _account(self) -> str | None:
        given = self.headers.get("Authorization")
        if given is None:
            return None
        account = TOKENS.get(given.removeprefix("Bearer "))
        if account is None:
            raise Failure(401, "Invalid credentials in Authorization header")
        return account

    def _repository(self, identifier: str, *, write: bool = False) -> Repository:
        account = self._account()
        repository = self.server.repositories.get(identifier)
        owner = identifier.split("/")[0]
        if repository is None or (repository.private and account != owner):
            raise Failure(404 if account else 401, "Repository not found", "RepoNotFound")
        if write and (account != owner or account in READ_ONLY):
            raise Failure(403, f"You don't have the rights to write to {identifier}")
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str:
        oid = repository.branches.get(revision, revision)
        if oid not in repository.commits:
            raise Failure(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    def whoami(self) -> None:
        account = self._account()
        if account is None:
            raise Failure(401, "Invalid username or password.")
        self._answer(200, {"type": "user", "name": account, "orgs": [], "auth": {"type": "access_token"}})

    def create(self) -> None:
        account, wanted = self._account(), json.loads(self.body)
        owner = wanted.get("organization") or account
        if account is None:
            raise Failure(401, "Invalid username or password.")
        if owner != account or account in READ_ONLY:
            raise Failure(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        identifier = f"{owner}/{wanted['name']}"
        if identifier in self.server.repositories:
            raise Failure(409, "You already created this model repo")
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        repository = self.server.repositories[identifier] = Repository(private)
        repository.commit("main", {".gitattributes": (b"*.safetensors filter=lfs\n", False)}, "initial commit")
        self._answer(200, {"url": f"{self.server.url}/{identifier}", "name": identifier, "id": identifier})

    def validate(self) -> None:
        text = json.loads(self.body)["content"]
        errors = []
        for line in text.split("---")[1].splitlines() if text.startswith("---") else []:
            name, _, value = line.partition(": ")
            if name == "base_model" and not BASE_MODEL.fullmatch(json.loads(value)):
                errors.append({"message": f'"base_model" with value {value} is not valid. Use a model id.'})
        self._answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def info(self, identifier: str, revision: str = "main") -> None:
        repository = self._repository(identifier)
        oid = self._commit_of(repository, revision)
        siblings = [{"rfilename": name} for name in sorted(repository.commits[oid])]
        self._answer(
            200,
            {"id": identifier, "sha": oid, "private": repository.private, "siblings": siblings,
             "messages": repository.messages, "tags": []},
        )  # fmt: skip

    def branch(self, identifier: str, name: str) -> None:
        repository = self._repository(identifier, write=True)
        if name in repository.branches:
            raise Failure(409, "Reference already exists")
        repository.branches[name] = repository.branches["main"]
        self._answer(200, {})

    def preupload(self, identifier: str, revision: str) -> None:
        repository = self._repository(identifier, write=True)
        self._commit_of(repository, revision)
        self._answer(
            200,
            {"files": [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular",
                 "shouldIgnore": False}
                for f in json.loads(self.body)["files"]
            ]},
        )  # fmt: skip

    def batch(self, identifier: str) -> None:
        self._repository(identifier, write=True)
        objects = []
        for item in json.loads(self.body)["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.server.large:
                answer["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}"}}
            objects.append(answer)
        self._answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Failure(400, "content does not match its digest")
        self.server.large[oid] = self.body
        self._answer(200, b"")

    def commit(self, identifier: str, revision: str) -> None:
        repository = self._repository(identifier, write=True)
        if self.server.meddle:
            self.server.meddle = False
            before = repository.commits[repository.branches[revision]]
            repository.commit(revision, {**before, "notes.md": (b"theirs", False)}, "someone else")
        parent = self._commit_of(repository, revision)
        files, message = dict(repository.commits[parent]), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, parent):
                    raise Failure(412, "A commit has happened since. Please refresh and try again.")
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"]), False
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.server.large:
                    raise Failure(400, f"{value['path']} was not uploaded")
                files[value["path"]] = self.server.large[value["oid"]], True
            else:
                raise Failure(400, f"unknown operation {item['key']}")
        oid = repository.commit(revision, files, message)
        self._answer(
            200, {"commitOid": oid, "commitUrl": f"{self.server.url}/{identifier}/commit/{oid}", "hookOutput": ""}
        )

    def resolve(self, identifier: str, revision: str, path: str) -> None:
        repository = self._repository(identifier)
        oid = self._commit_of(repository, revision)
        files = repository.commits[oid]
        if path not in files:
            raise Failure(404, "Entry not found", "EntryNotFound")
        data, large = files[path]
        etag = hashlib.sha256(data).hexdigest() if large else hashlib.sha1(data).hexdigest()
        headers = {"X-Repo-Commit": oid, "ETag": f'"{etag}"', "Content-Type": "application/octet-stream"}
        if large:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        self._answer(200, data, headers)

    def meddle(self) -> None:
        self.server.meddle = True
        self._answer(200, {})


_ID = r"([^/]+/[^/]+)"
ROUTES = [
    (("GET",), r"/api/whoami-v2", "whoami"),
    (("POST",), r"/api/repos/create", "create"),
    (("POST",), r"/api/validate-yaml", "validate"),
    (("GET",), rf"/api/models/{_ID}", "info"),
    (("GET",), rf"/api/models/{_ID}/revision/([^/]+)", "info"),
    (("POST",), rf"/api/models/{_ID}/branch/([^/]+)", "branch"),
    (("POST",), rf"/api/models/{_ID}/preupload/([^/]+)", "preupload"),
    (("POST",), rf"/api/models/{_ID}/commit/([^/]+)", "commit"),
    (("POST",), rf"/{_ID}\.git/info/lfs/objects/batch", "batch"),
    (("PUT",), r"/lfs/([0-9a-f]{64})", "upload"),
    (("GET", "HEAD"), rf"/{_ID}/resolve/([^/]+)/(.+)", "resolve"),
    (("POST",), r"/test/meddle", "meddle"),
]


if __name__ == "__main__":
    hub = Hub()
    print(hub.server_port, flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), hub.shutdown()), daemon=True).start()  # ends with its parent
    hub.serve_forever()

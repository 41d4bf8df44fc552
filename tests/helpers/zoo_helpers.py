"""A small HTTP server that misbehaves on request, and manifests to use it with."""

import hashlib
import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sctseg7t.zoo.manifest import parse_file
from sctseg7t.zoo.transfer import RetryPolicy

FAST = RetryPolicy(attempts=3, base_s=0.001, cap_s=0.002, connect_s=5, read_s=5)
CONTENT = bytes(range(256)) * 1200


@dataclass
class Answer:
    """One scripted answer: what to send, where to stop, how long to stall."""

    body: bytes = CONTENT
    status: int = 200
    headers: dict = field(default_factory=dict)
    cut_at: int | None = None
    stall_s: float = 0.0
    ranges: bool = True
    announce: bool = True


class Server:
    """Serves scripted answers per path; the last one of a path repeats."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        self.sent = defaultdict(int)
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._httpd.daemon_threads = True
        threading.Thread(target=self._httpd.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self._httpd.server_address[1]}/{path}"

    def script(self, path, *answers):
        self.answers[f"/{path}"] = list(answers)
        return self.url(path)

    def ranges(self, path):
        """The Range header of each request for ``path``, None where there was none."""
        return [wanted for name, wanted in self.requests if name == f"/{path}"]

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()

    def close(self):
        self._httpd.shutdown()
        self._httpd.server_close()

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                server.requests.append((self.path, self.headers.get("Range")))
                answers = server.answers.get(self.path) or [Answer(status=404, body=b"")]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                start = _range_start(self.headers.get("Range")) if answer.ranges else 0
                status = answer.status
                if start and status == 200:
                    status = 206 if start < len(answer.body) else 416
                self.send_response(status)
                body = b"" if status == 416 else answer.body[start:]
                if status == 206:
                    total = len(answer.body)
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                if answer.announce:
                    self.send_header("Content-Length", str(len(body)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                stop = len(body) if answer.cut_at is None else max(0, answer.cut_at - start)
                try:
                    self.wfile.write(body[:stop])
                    self.wfile.flush()
                    server.sent[self.path] += len(body[:stop])
                    if answer.stall_s:
                        time.sleep(answer.stall_s)
                except OSError:
                    pass

        return Handler


def _range_start(header):
    return int(header.removeprefix("bytes=").partition("-")[0]) if header else 0


def file_entry(name="net.onnx", content=CONTENT, urls=(), **fields):
    """The manifest entry of a file with this content."""
    digest = hashlib.sha256(content).hexdigest()
    return {"name": name, "bytes": len(content), "sha256": digest, "urls": list(urls), **fields}


def file_spec(*args, **kwargs):
    return parse_file(file_entry(*args, **kwargs), Path("/"))


def model_entry(model_id="net", version="1.0.0", **fields):
    """A complete, valid model entry."""
    return {
        "id": model_id,
        "version": version,
        "default": True,
        "task": "gm_sc",
        "description": "made for a test",
        "licence": "MIT",
        "files": [file_entry(f"{model_id}-{version}.onnx")],
        "input": {
            "contrasts": ["T2star"],
            "spacing_mm": [0.2, 0.2],
            "size": [64, 64],
            "normalisation": {"name": "zscore", "parameters": {"scope": "slice"}},
            "interpolation": "linear",
        },
        "outputs": [{"name": "SC", "channel": 0, "threshold": 0.5, "meaning": "cord", "suffix": "_seg"}],
        "activation": "sigmoid",
        "centring": {"policy": "none"},
        **fields,
    }


def write_manifest(folder, *models, datasets=()):
    """Write ``models.json`` into ``folder`` and return its path."""
    raw = {
        "schema_version": 1,
        "updated": "2026-01-01",
        "tasks": {"gm_sc": {"description": "cord and GM", "default": models[0]["id"]}},
        "models": list(models),
        "datasets": list(datasets),
    }
    path = Path(folder) / "models.json"
    path.write_text(json.dumps(raw))
    return path


def cache_files(cache):
    """Every file in the cache except locks, as relative paths."""
    files = (path.relative_to(cache) for path in Path(cache).rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if path.parts[0] != "locks")


def clean_cache(tmp_path, monkeypatch):
    """Name an empty cache folder, and set aside the user's own settings."""
    for name in ("MIRROR", "OFFLINE", "MANIFEST"):
        monkeypatch.delenv(f"SCT7T_{name}", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cache"
    monkeypatch.setenv("SCT7T_CACHE", str(folder))
    return folder

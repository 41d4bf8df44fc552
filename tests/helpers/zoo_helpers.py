"""A small HTTP server that misbehaves on request, and manifests to use it with."""

import hashlib
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

from sctseg7t.zoo.manage import bring, parts_of
from sctseg7t.zoo.manifest import load_manifest, parse_file

CONTENT = bytes(range(256)) * 1200


@dataclass
class Answer:
    """One scripted answer: what to send, where to stop, how long to stall."""

    body: bytes = CONTENT
    status: int = 200
    cut_at: int | None = None
    stall_s: float = 0.0


class Server:
    """Serves scripted answers per path; the last one of a path repeats."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._httpd.daemon_threads = True
        threading.Thread(target=self._httpd.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self._httpd.server_address[1]}/{path}"

    def script(self, path, *answers):
        self.answers[f"/{path}"] = list(answers)
        return self.url(path)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self._httpd.shutdown()
        self._httpd.server_close()

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                server.requests.append(self.path)
                answers = server.answers.get(self.path) or [Answer(status=404, body=b"")]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                try:
                    self.wfile.write(answer.body[: answer.cut_at])
                    self.wfile.flush()
                    time.sleep(answer.stall_s)
                except OSError:
                    pass

        return Handler


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


def install(name, **options):
    """Bring every file of a model or data set, as ``sct7t_download install`` does."""
    manifest = load_manifest()
    return [p for spec in parts_of(manifest, name) for file in spec.files for p in bring(spec, file, **options)]


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
    """Name an empty cache folder, set aside the user's own settings, and wait for no second try."""
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))
    for name in ("MIRROR", "OFFLINE", "MANIFEST"):
        monkeypatch.delenv(f"SCT7T_{name}", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cache"
    monkeypatch.setenv("SCT7T_CACHE", str(folder))
    return folder

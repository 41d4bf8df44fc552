"""The model zoo: the manifest, verified downloads and the cache."""

from sctseg7t.zoo.download import fetch, weights
from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.sidecar import spec_from_onnx

__all__ = ["fetch", "load_manifest", "spec_from_onnx", "weights"]

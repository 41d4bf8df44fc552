"""ONNX Runtime: which device, how many threads, one session per model."""

from sctseg7t.runtime.session import Session, open_session, usable_cpus

__all__ = ["Session", "open_session", "usable_cpus"]

"""Spinal cord and gray matter segmentation at 7 T and below, with a registry of models."""

from sctseg7t.version import __version__

__all__ = ["__version__", "segment"]


def __getattr__(name):
    # Deferred so that `--help` and `import sctseg7t` stay instant.
    if name == "segment":
        from sctseg7t.pipeline import segment

        return segment
    raise AttributeError(f"module 'sctseg7t' has no attribute {name!r}")

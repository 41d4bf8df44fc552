"""Spinal cord and gray matter segmentation at 7 T and below, with a registry of models."""

from typing import TYPE_CHECKING

from sctseg7t.version import __version__

if TYPE_CHECKING:
    from sctseg7t.cord.mask_files import measure_masks
    from sctseg7t.inference.pipeline import open_segmenter, segment
    from sctseg7t.inference.segmenter import Options, Result

__all__ = ["Options", "Result", "__version__", "measure_masks", "open_segmenter", "segment"]


def __dir__() -> list[str]:
    # help() shows what dir() lists.
    return [*globals(), *__all__]


def __getattr__(name: str):
    # Deferred so that `--help` and `import sctseg7t` stay instant.
    if name == "measure_masks":
        from sctseg7t.cord import mask_files

        return mask_files.measure_masks
    if name in ("open_segmenter", "segment"):
        from sctseg7t.inference import pipeline

        return getattr(pipeline, name)
    if name in ("Options", "Result"):
        from sctseg7t.inference import segmenter

        return getattr(segmenter, name)
    raise AttributeError(f"module 'sctseg7t' has no attribute {name!r}")

"""The QC page: every saved mask over its scan, worst first, to be rated in a browser without a network."""

from sctseg7t.qc.page import write_page

__all__ = ["write_page"]

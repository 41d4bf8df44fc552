"""The QC page: every saved mask over its scan, worst first, to be rated in a browser without a network."""

from sctseg7t.qc.card_store import keep_card
from sctseg7t.qc.page import write_page

__all__ = ["keep_card", "write_page"]

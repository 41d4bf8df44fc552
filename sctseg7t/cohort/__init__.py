"""Many scans: finding them, running them all, and putting their numbers together."""

from sctseg7t.inference.record import Record, find_records, read_record

__all__ = ["Record", "find_records", "read_record"]

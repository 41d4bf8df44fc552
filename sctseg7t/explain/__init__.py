"""What a segmentation network looks at: dreams of objects, their features, and how these read (extra: torch)."""

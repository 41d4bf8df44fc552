"""From one scan to its files: opening a model, segmenting, recording, writing."""

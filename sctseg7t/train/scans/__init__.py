"""Labelled scans to learn from: found, checked, split by person, cut into items, augmented."""

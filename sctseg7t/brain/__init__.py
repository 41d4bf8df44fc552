"""Brains: preparing a scan for a network, step by step, each usable alone."""

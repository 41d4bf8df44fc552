"""Simulated FLAIR images of whole brains with MS lesions, at 1 mm."""

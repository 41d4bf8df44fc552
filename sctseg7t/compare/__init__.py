"""Comparing methods: masks of several methods, with or without a reference, over one scan or many."""

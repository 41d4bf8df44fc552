"""Measures made from masks: area and shape of the cord, lesions, and the agreement of two masks."""

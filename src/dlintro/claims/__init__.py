"""Measures the slides' claims. `slides/` has one file per claim, and this folder has what they share."""

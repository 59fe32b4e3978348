"""Measures dlintro's speed against bare PyTorch and against the usual way of writing a training."""

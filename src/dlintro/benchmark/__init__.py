"""Speed: dlintro's whole stack beside bare PyTorch and beside the usual way of writing it."""

"""One run, top to bottom: its parts, its training, and what it leaves."""

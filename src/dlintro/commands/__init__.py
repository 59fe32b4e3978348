"""The commands of scripts/: what is typed, and what is answered."""

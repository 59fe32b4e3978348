"""Turns the arguments of a command into checked settings. Nothing here imports torch; only `compose` imports Hydra."""

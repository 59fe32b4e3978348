"""Trains one run: makes its parts, trains and tests them, and writes its files."""

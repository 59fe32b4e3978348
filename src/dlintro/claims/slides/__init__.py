"""One file per claim, in the order of their numbers. A new claim is a new file."""

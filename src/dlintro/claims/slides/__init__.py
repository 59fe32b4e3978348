"""The claims, one file each. A new claim is a new file."""

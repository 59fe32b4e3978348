"""The slides' claims, measured: one file per claim in `slides/`; what they share is here."""

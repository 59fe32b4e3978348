"""Runs many trainings, one process per job, resumes them, and reports on them."""

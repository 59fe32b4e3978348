"""Callbacks that watch a run, and a few that steer it. None depends on the model or the data set."""

"""What watches a run, and the few that steer it. None knows which model or data set it is."""

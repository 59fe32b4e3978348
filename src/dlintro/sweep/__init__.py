"""Many runs: launched one process a job, resumed, and reported on."""

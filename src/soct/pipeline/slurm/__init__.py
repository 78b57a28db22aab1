"""Batch jobs: the script of a run, what Slurm says of its jobs."""

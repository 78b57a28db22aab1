"""Tests of images and clusters as they are: a real Apptainer, a real Slurm. `make test-cluster` runs them."""

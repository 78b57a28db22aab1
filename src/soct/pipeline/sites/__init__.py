"""The machine that a run may use, as a site file, the environment and the command line say. None of it changes a byte of any result."""

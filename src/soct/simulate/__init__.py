"""A phantom brain, a microscope that images it, and the score of a volume against that truth."""

"""What the tools beside the pipeline do: quick looks, maps of the tissue and the optics, packages for people."""

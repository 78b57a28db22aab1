"""Tests of the tools beside the pipeline."""

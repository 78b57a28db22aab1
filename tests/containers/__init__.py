"""Tests of what images are built from; the images themselves are built in tests/cluster."""

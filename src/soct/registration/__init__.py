"""Slice to slice: pairwise registration and the poses of all slices."""

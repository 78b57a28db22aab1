"""Tests of threads and caches."""

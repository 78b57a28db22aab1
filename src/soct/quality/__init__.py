"""Metrics, limits and verdicts."""

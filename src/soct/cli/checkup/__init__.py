"""What ``soct doctor`` looks at, one module per part of a machine."""

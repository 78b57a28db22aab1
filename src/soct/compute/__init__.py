"""Thread and memory budgets, caches of compiled kernels, array backends."""

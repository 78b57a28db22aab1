"""Several processes, on several machines, in one run folder: who is there, who has which unit, who may write."""

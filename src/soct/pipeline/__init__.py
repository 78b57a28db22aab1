"""The state machine: profile -> graph -> plan -> run. Knows steps by their declarations, never their science.

A run reads from top to bottom: `asked_run` and `request` say what is wanted, `preparation` opens the input, `graph`
and `keys` name the units, `planning` decides what to compute, `runner` and `scheduler` have it computed by `workers`,
`desk` publishes it in the `folder`. `together` is for several processes on one run, `slurm` for batch jobs.
"""

"""The state machine: profile -> graph -> plan -> run. Knows steps by their declarations, never their science."""

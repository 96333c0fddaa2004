"""Where a stage runs: in this process, in several of this machine, or on a cluster."""

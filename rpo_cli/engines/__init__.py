"""Where a stage runs: in this process, or on a cluster."""

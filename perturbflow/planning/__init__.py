"""What the workflow knows before a job runs: the config, what depends on which code, what jobs cost."""

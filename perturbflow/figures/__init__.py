"""The figures of a run, a module each."""

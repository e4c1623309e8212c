"""Where a study's clean images come from."""

"""The numbers of a run: its CSV files read as frames, and resampled."""

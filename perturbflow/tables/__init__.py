"""The tables of a run, a module each: its numbers, and how they read as Markdown."""

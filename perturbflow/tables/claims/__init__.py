"""The paper's claims, put to a run."""

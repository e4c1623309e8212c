"""Adversarial sets: the paper's attacks, those of Foolbox, and noise of the same norm."""

"""Classifiers: networks that take pixels and name the feature maps to observe, and their training."""

"""Logging, scaling, noise, termination rules and data loading, under the kit's import paths."""

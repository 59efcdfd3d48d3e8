"""Policies that learn from the dataset alone."""

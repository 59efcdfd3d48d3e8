"""Policies that learn in a learned model too."""

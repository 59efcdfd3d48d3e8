"""From a task and a few choices to a trained policy and a record of how it came about."""

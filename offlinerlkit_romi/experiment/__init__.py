"""From a task and a few choices to a trained policy with its papers in order."""

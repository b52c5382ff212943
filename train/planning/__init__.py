"""Memory, time and limits of a training run, computed before it starts."""

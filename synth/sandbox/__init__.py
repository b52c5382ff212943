"""The sandbox that runs model-written programs."""

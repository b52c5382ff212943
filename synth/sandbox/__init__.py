"""The sandbox for model-written programs."""

"""What the dedup stage is made of."""

"""Training data: chat format, tokens and packing."""

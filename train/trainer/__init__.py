"""Training with TRL: configuration, trainer, callbacks, validation and checkpoints."""

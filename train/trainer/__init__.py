"""Trains with TRL: configuration, trainer, callbacks, validation, checkpoints."""

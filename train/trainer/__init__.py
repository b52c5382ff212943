"""TRL's trainer and what surrounds it: config, callbacks, validation and checkpoints."""

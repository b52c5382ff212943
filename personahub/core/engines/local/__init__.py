"""Engines that load a model on this machine."""

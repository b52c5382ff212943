"""Experiments: one YAML, read into a graph of stages and run stage by stage."""

"""Parses a written answer into an expression: `normalise`, then `grammar.parse`."""

"""From an answer as written to the expression it stands for: `normalise`, then `grammar.parse`."""

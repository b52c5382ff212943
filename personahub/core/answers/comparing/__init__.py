"""Whether two expressions are the same answer: `compare.same`, and what it is made of."""

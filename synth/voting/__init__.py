"""Votes over sampled solutions, and the judges that break ties."""

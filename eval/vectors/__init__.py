"""Analyses of embedding vectors: maps, topics and pairs at a similarity."""

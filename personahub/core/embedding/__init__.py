"""Sentence embeddings: their configuration, local models and endpoints."""

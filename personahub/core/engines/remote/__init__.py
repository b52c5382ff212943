"""Engines behind an HTTP endpoint: chat completions and the Batch API."""

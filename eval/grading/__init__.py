"""Problem sets, grading and scores for benchmarks."""

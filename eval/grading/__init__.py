"""Problem sets, grading and scores of benchmarks."""

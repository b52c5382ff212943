"""Output contracts: what a reply of each use case must look like."""

"""What a run ends with: one request answered by what it pushed, as a caller would ask."""

"""Reading a live A/B test."""

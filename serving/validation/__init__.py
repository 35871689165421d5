"""Serves an export for a trial before it is pushed."""

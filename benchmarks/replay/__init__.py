"""Replay of logs whose truth is known, and beside other libraries."""

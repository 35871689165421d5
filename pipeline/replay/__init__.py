"""Replay within a pipeline: logs beyond one machine, and a release that a replay must not find worse."""

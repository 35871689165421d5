"""Judges rankers: metrics with intervals, slices, baselines, gates. Reads scored rows (Arrow), never TensorFlow."""

"""The pages of a replay and of an experiment."""

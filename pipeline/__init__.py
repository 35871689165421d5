"""The TFX pipeline: the DAG, its own components, its runner and the command line."""

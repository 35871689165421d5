"""A model server in this process: TensorFlow Serving's gRPC and REST interfaces over exported models."""

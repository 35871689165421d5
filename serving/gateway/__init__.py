"""The gateway: a user in, ranked items out. It runs the cascade of a release over TensorFlow Serving's API."""

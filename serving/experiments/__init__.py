"""Experiments on the traffic of a gateway: who sees which variant, what is explored, and what is logged of it."""

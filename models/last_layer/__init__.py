"""A Bayesian last layer: how sure a trained ranker is of the weights that its logits are read off with."""

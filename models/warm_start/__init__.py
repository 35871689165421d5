"""How a training begins with what the one before it learnt: embedding rows by term, weights, the optimiser's state."""

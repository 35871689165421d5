"""The best items by inner product, by sorting all of them: what retrieval is held against."""

import numpy as np


def exact_top_k(queries: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices and scores [Q, k], best first; of equal scores the lower index first."""
    scores = queries @ items.T
    chosen = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return chosen, np.take_along_axis(scores, chosen, axis=1)

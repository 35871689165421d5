"""An approximate index over item embeddings by ScaNN, where it is installed. The exact index needs nothing."""

from __future__ import annotations

import numpy as np


def have_scann() -> bool:
    """Whether the package `scann` can be imported."""
    try:
        import scann  # noqa: F401
    except ImportError:
        return False
    return True


class ScannIndex:
    """ScaNN (Guo et al., ICML 2020): a partition tree, asymmetric hashing, and exact reordering of the best.

    Report its recall against the exact index (`evaluation.retrieval_metrics.index_recall`) before serving by it.

    Args:
      embeddings: [n, d] float32.
      leaves: partitions of the tree; the square root of n by default.
      leaves_to_search: partitions that a query visits; a tenth by default.
      reorder: candidates that are scored exactly.

    Raises:
      ImportError: where `scann` is not installed.
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        leaves: int | None = None,
        leaves_to_search: int | None = None,
        reorder: int = 200,
    ):
        if not have_scann():
            raise ImportError(
                "the ScaNN index needs the package `scann` (Linux: pip install scann). Without it use the exact index: "
                "the signature `retrieve` of the export."
            )
        import scann

        leaves = leaves or max(1, round(len(embeddings) ** 0.5))
        self._searcher = (
            scann.scann_ops_pybind.builder(np.ascontiguousarray(embeddings, np.float32), 10, "dot_product")
            .tree(num_leaves=leaves, num_leaves_to_search=leaves_to_search or max(1, leaves // 10))
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(reorder)
            .build()
        )

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns indices [Q, k] into the embeddings and scores [Q, k], best first."""
        indices, scores = self._searcher.search_batched(queries, final_num_neighbors=k)
        return indices.astype(np.int64), scores

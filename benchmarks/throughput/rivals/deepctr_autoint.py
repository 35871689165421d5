"""DeepCTR's AutoInt by its documented loop: `model.fit` on arrays in memory."""

from __future__ import annotations

from worker import serve


def prepare(settings: dict):
    import numpy as np
    import tensorflow as tf

    threads = len(settings["cores"])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)

    from deepctr.feature_column import SparseFeat
    from deepctr.models import AutoInt

    with np.load(settings["arrays"]) as arrays:
        columns = {name: arrays[name] for name in settings["vocabulary_sizes"]}
        labels = arrays["label"]
    fields = [
        SparseFeat(name, size, embedding_dim=settings["embedding_dim"])
        for name, size in settings["vocabulary_sizes"].items()
    ]
    model = AutoInt(
        [],
        fields,
        att_layer_num=settings["num_layers"],
        att_embedding_size=settings["head_dim"],
        att_head_num=settings["num_heads"],
        att_res=True,
        dnn_hidden_units=(),
        l2_reg_linear=0,  # as the other sides: no penalty, which would make the gradient of the tables dense
        l2_reg_embedding=0,
        l2_reg_dnn=0,
    )
    model.compile("adam", "binary_crossentropy")

    def epoch() -> int:
        model.fit(columns, labels, batch_size=settings["batch_size"], epochs=1, verbose=0)
        return len(labels)

    return epoch


if __name__ == "__main__":
    serve(prepare)

"""Clickmill's side: AutoInt through the real input pipeline and the real training step, or the pipeline alone."""

from __future__ import annotations

import itertools

from worker import serve


def prepare(settings: dict):
    import models  # noqa: F401  (names the Keras to use: before TensorFlow)

    # isort: split
    import tensorflow as tf

    threads = len(settings["cores"])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)

    from features.encoding.feature_encoding import FeatureEncoding
    from models.autoint.model import AutoInt, AutoIntConfig
    from models.inputs.input_pipeline import InputConfig, make_dataset
    from models.training.loop import build_variables, step_runner
    from models.training.optimizers import OptimizerConfig, make_optimizer

    encoding = FeatureEncoding.load(settings["encoding"])
    config = InputConfig(batch_size=settings["batch_size"])
    epochs = itertools.count()

    def batches():
        return make_dataset(settings["examples"], "train", encoding, config, shuffle=True, epoch=next(epochs))

    if settings["mode"] == "input":
        # Counted by shape: nothing but the pipeline runs.
        return lambda: sum(int(batch["label"].shape[0]) for batch in batches())

    sizes = AutoIntConfig(
        variant="paper",
        num_layers=settings["num_layers"],
        num_heads=settings["num_heads"],
        head_dim=settings["head_dim"],
    )
    model = AutoInt(encoding, sizes)
    model.compile(optimizer=make_optimizer(OptimizerConfig(), 1))
    build_variables(model, next(iter(batches())))
    run_steps = step_runner(model)

    def epoch() -> int:
        model.log_loss.reset_state()
        iterator = iter(batches())
        while run_steps(iterator, 16):
            pass
        return int(model.log_loss.count)

    return epoch


if __name__ == "__main__":
    serve(prepare)

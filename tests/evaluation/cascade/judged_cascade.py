"""A small cascade that was judged beside every reference, and a coarse ranker beside a fine one."""

import functools

import numpy as np

from evaluation.cascade.config import CascadeConfig, CascadeEvaluationConfig
from evaluation.cascade.costs import CascadeCosts, StageCost
from evaluation.cascade.evaluate import evaluate_cascade
from evaluation.cascade.metrics import dcg, sigmoid
from evaluation.cascade.scores import CascadeScores, ReferenceScores
from evaluation.cascade.stage_comparison import StageComparison, StageDifference
from evaluation.results import Estimate


def references(fine, ideal, request, item, rng):
    """What the fine ranker's logits [R, n] say of lists that no stage made, as the scoring keeps it."""
    rows = np.arange(len(fine))[:, np.newaxis]
    probability = sigmoid(fine)
    worth = (probability / dcg(probability[rows, ideal])[:, np.newaxis]).sum(axis=0)
    popularity = rng.integers(0, 50, fine.shape[1]).astype(np.float64) + 20 * probability.mean(axis=0)
    random = np.stack([rng.choice(fine.shape[1], 20, replace=False) for _ in fine])
    shared = {
        name: np.broadcast_to(np.argsort(-by)[:5], ideal.shape)
        for name, by in (("popular", popularity), ("single", worth))
    }
    return ReferenceScores(
        mean_probability=probability.mean(axis=1),
        random=random,
        random_logit=fine[rows, random],
        **shared,
        **{f"{name}_logit": fine[rows, chosen] for name, chosen in shared.items()},
        popularity=popularity[item],
        single_score=worth[item],
    )


def stages(log_loss=-0.0020, auc=0.0041):
    """HCN beside AutoInt, the intervals of the differences two thousandths wide on either side."""
    values = {"log_loss": (0.3127, log_loss), "auc": (0.7421, auc)}
    return StageComparison(
        coarse="HCN",
        fine="AutoInt",
        rows=19_899,
        users=931,
        metrics={
            name: StageDifference(
                coarse=fine + change,
                fine=fine,
                difference=Estimate(value=change, low=change - 0.0016, high=change + 0.0016),
            )
            for name, (fine, change) in values.items()
        },
        interval_level=0.95,
    )


@functools.cache
def cascade():
    """A cascade of 60 requests over 40 items, judged at n₁ = 20, n₂ = 10."""
    rng = np.random.default_rng(3)
    fine = rng.normal(size=(60, 40)).astype(np.float32)
    retrieved = np.argsort(-(fine + rng.normal(size=fine.shape)), axis=1).astype(np.int32)
    ideal = np.argsort(-fine, axis=1)[:, :5]
    rows, request = np.arange(60)[:, np.newaxis], np.repeat(np.arange(60), 4)
    item = rng.integers(0, 40, 240)
    scores = CascadeScores(
        catalogue_size=40,
        user=np.arange(60) // 2,
        retrieved=retrieved,
        coarse=(fine + 0.3 * rng.normal(size=fine.shape))[rows, retrieved],
        fine=fine[rows, retrieved],
        ideal=ideal,
        ideal_logit=fine[rows, ideal],
        request=request,
        item=item,
        label=rng.random(240) < 0.3,
        logit=fine[request, item],
        unknown_items=17,
        references=references(fine, ideal, request, item, rng),
    )
    stage = StageCost(fixed=0.001, per_item=1e-5)
    costs = CascadeCosts(retrieve=stage, coarse=stage, fine=stage, ideal_seconds=0.0123)
    config = CascadeEvaluationConfig(retrieve_grid=(10, 20, 40), coarse_grid=(5, 10))
    return evaluate_cascade(scores, CascadeConfig(retrieve=20, coarse=10, top_k=5), config, costs, "autoint")

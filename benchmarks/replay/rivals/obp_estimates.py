"""What Open Bandit Pipeline 0.5.7 and vw-estimators 0.2.2 make of logs; runs in their environment.

python obp_estimates.py FOLDER writes, for each log, NAME.npz (the log's columns, and policies and a model drawn by a
fixed seed) and, last, estimates.json: log → estimator → value, and for intervals [low, high]. The logs are the Open
Bandit Dataset's sample, which the package brings along (three campaigns, each logged by two policies), and drawn
slates, which the sample lacks.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from estimators.bandits import cressieread, ips, snips
from estimators.slates import pseudo_inverse
from obp import ope
from obp.dataset import OpenBanditDataset

SLATES, SLOTS, ACTIONS, CLUSTERS = 5_000, 3, 8, 5
RESAMPLES = 1_000


def sample_log(behavior: str, campaign: str) -> tuple[dict, dict]:
    """Columns of a log of the sample, and what the two packages make of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        feedback = OpenBanditDataset(behavior_policy=behavior, campaign=campaign).obtain_batch_bandit_feedback()
    generator = np.random.default_rng(7)
    actions, positions, rows = feedback["n_actions"], SLOTS, feedback["n_rounds"]
    scores = np.exp(generator.normal(size=(actions, positions)))
    sure = np.zeros((actions, positions))
    sure[generator.integers(0, actions, positions), np.arange(positions)] = 1
    log = {
        "reward": feedback["reward"].astype(float),
        "action": feedback["action"],
        "position": feedback["position"],
        "propensity": feedback["pscore"],
        "soft": scores / scores.sum(axis=0),
        "sure": sure,
        "uniform": np.full((actions, positions), 1 / actions),
        "model": generator.random((actions, positions)) * 0.01,
        "context": generator.random(rows) * 0.005,
        "cluster": np.arange(actions) % CLUSTERS,
        "balanced": generator.random(rows) * 3,
    }
    return log, {**impressions(log), **bootstrapped(log), **vowpal_wabbit(log)}


def impressions(log: dict) -> dict:
    """Open Bandit Pipeline's estimates of an impression's reward."""
    rows = len(log["reward"])
    soft, sure, uniform = (np.broadcast_to(log[name], (rows, *log[name].shape)) for name in ("soft", "sure", "uniform"))
    given = {"reward": log["reward"], "action": log["action"], "pscore": log["propensity"], "position": log["position"]}
    given |= {"action_dist": soft, "estimated_importance_weights": log["balanced"]}
    given |= {"estimated_rewards_by_reg_model": log["model"][None] + log["context"][:, None, None]}
    clusters = np.eye(CLUSTERS)[log["cluster"]][:, :, None]
    embedded = {"context": np.zeros((rows, 1)), "action_embed": log["cluster"][log["action"]][:, None]}
    embedded |= {"pi_b": uniform, "p_e_a": clusters}
    found = {
        "replay": ope.ReplayMethod().estimate_policy_value(**given | {"action_dist": sure}),
        "ips": ope.InverseProbabilityWeighting().estimate_policy_value(**given),
        "snips": ope.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**given),
        "clipped_ips@5": ope.InverseProbabilityWeighting(lambda_=5).estimate_policy_value(**given),
        "sub_gaussian_ips@0.01": ope.SubGaussianInverseProbabilityWeighting(lambda_=0.01).estimate_policy_value(
            **given
        ),
        "balanced_ips": ope.BalancedInverseProbabilityWeighting(lambda_=np.inf).estimate_policy_value(**given),
        "dm": ope.DirectMethod().estimate_policy_value(**given),
        "dr": ope.DoublyRobust().estimate_policy_value(**given),
        "sndr": ope.SelfNormalizedDoublyRobust().estimate_policy_value(**given),
        "switch_dr@5": ope.SwitchDoublyRobust(lambda_=5.0).estimate_policy_value(**given),
        "shrunk_dr@10": ope.DoublyRobustWithShrinkage(lambda_=10.0).estimate_policy_value(**given),
        "clipped_dr@5": ope.DoublyRobust(lambda_=5).estimate_policy_value(**given),
        "sub_gaussian_dr@0.01": ope.SubGaussianDoublyRobust(lambda_=0.01).estimate_policy_value(**given),
        "mips": ope.MarginalizedInverseProbabilityWeighting(
            n_actions=len(log["cluster"]), embedding_selection_method=None
        ).estimate_policy_value(**given, **embedded),
        "snmips": ope.SelfNormalizedMarginalizedInverseProbabilityWeighting(
            n_actions=len(log["cluster"]), embedding_selection_method=None
        ).estimate_policy_value(**given, **embedded),
    }
    return {f"obp {name}": float(value) for name, value in found.items()}


def bootstrapped(log: dict) -> dict:
    """Open Bandit Pipeline's 95 % intervals."""
    rows = len(log["reward"])
    given = {"reward": log["reward"], "action": log["action"], "pscore": log["propensity"], "position": log["position"]}
    given |= {"action_dist": np.broadcast_to(log["soft"], (rows, *log["soft"].shape))}
    given |= {"n_bootstrap_samples": RESAMPLES, "random_state": 0}
    kinds = {"ips": ope.InverseProbabilityWeighting(), "snips": ope.SelfNormalizedInverseProbabilityWeighting()}
    found = {name: kind.estimate_interval(**given) for name, kind in kinds.items()}
    return {
        f"obp {name} interval": [float(each["95.0% CI (lower)"]), float(each["95.0% CI (upper)"])]
        for name, each in found.items()
    }


def vowpal_wabbit(log: dict) -> dict:
    """vw-estimators' IPS, SNIPS and Cressie-Read, and its Cressie-Read interval at 95 %."""
    wanted = log["soft"][log["action"], log["position"]]
    found = {"ips": ips.Estimator(), "snips": snips.Estimator(), "cressie_read": cressieread.Estimator()}
    interval = cressieread.Interval()
    for estimator in (*found.values(), interval):
        for logged, reward, target in zip(log["propensity"], log["reward"], wanted, strict=True):
            estimator.add_example(float(logged), float(reward), float(target))
    ends = [float(end) for end in interval.get()]
    return {f"vw {name}": float(estimator.get()) for name, estimator in found.items()} | {
        "vw cressie_read interval": ends
    }


def slate_log() -> tuple[dict, dict]:
    """Drawn slates, whose numbers mean nothing but for the order of rows."""
    generator = np.random.default_rng(11)
    rows = SLATES * SLOTS
    per_slot, per_slot_new = generator.uniform(0.05, 1, (2, rows))
    down, down_new = (np.cumprod(each.reshape(SLATES, SLOTS), axis=1) for each in generator.uniform(0.3, 1, (2, rows)))
    new_dist = generator.dirichlet(np.ones(ACTIONS), rows)
    log = {
        "slate": np.repeat(np.arange(SLATES), SLOTS),
        "position": np.tile(np.arange(SLOTS), SLATES),
        "reward": generator.normal(size=rows),
        "action": generator.integers(0, ACTIONS, rows),
        "propensity": per_slot,
        "new": per_slot_new,
        "down": down.ravel(),
        "down_new": down_new.ravel(),
        "model": generator.random((rows, ACTIONS)),
        "new_dist": new_dist,
    }
    return log, slates(log)


def slates(log: dict) -> dict:
    """Both packages' estimates of a slate's reward."""
    whole, whole_new = (np.repeat(log[name][SLOTS - 1 :: SLOTS], SLOTS) for name in ("down", "down_new"))
    given = {"slate_id": log["slate"], "reward": log["reward"], "position": log["position"]}
    joint = given | {"pscore": whole, "evaluation_policy_pscore": whole_new}
    single = given | {
        "pscore_item_position": log["propensity"],
        "evaluation_policy_pscore_item_position": log["new"],
    }
    cascade = given | {"pscore_cascade": log["down"], "evaluation_policy_pscore_cascade": log["down_new"]}
    modelled = cascade | {"action": log["action"], "q_hat": log["model"].ravel()}
    modelled["evaluation_policy_action_dist"] = log["new_dist"].ravel()
    found = {
        "sips": ope.SlateStandardIPS(SLOTS).estimate_policy_value(**joint),
        "iips": ope.SlateIndependentIPS(SLOTS).estimate_policy_value(**single),
        "rips": ope.SlateRewardInteractionIPS(SLOTS).estimate_policy_value(**cascade),
        "snsips": ope.SelfNormalizedSlateStandardIPS(SLOTS).estimate_policy_value(**joint),
        "sniips": ope.SelfNormalizedSlateIndependentIPS(SLOTS).estimate_policy_value(**single),
        "snrips": ope.SelfNormalizedSlateRewardInteractionIPS(SLOTS).estimate_policy_value(**cascade),
        "cascade_dr": ope.SlateCascadeDoublyRobust(SLOTS, ACTIONS).estimate_policy_value(**modelled),
    }
    inverse = pseudo_inverse.Estimator()
    for begin in range(0, len(log["reward"]), SLOTS):
        rows = slice(begin, begin + SLOTS)
        logged, wanted = (log[name][rows].tolist() for name in ("propensity", "new"))
        inverse.add_example(logged, float(log["reward"][rows].sum()), wanted)
    return {f"obp {name}": float(value) for name, value in found.items()} | {"vw pi": float(inverse.get())}


def main(folder: Path) -> None:
    logs = {
        f"{behavior}/{campaign}": sample_log(behavior, campaign)
        for behavior in ("random", "bts")
        for campaign in ("all", "men", "women")
    }
    logs["slates"] = slate_log()
    for name, (log, _) in logs.items():
        np.savez(folder / f"{name.replace('/', '_')}.npz", **log)
    (folder / "estimates.json").write_text(json.dumps({name: found for name, (_, found) in logs.items()}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

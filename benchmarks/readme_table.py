"""Writes README's figure table from benchmarks/results/: `python -m benchmarks.readme_table`."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- figures: begin (python -m benchmarks.readme_table) -->", "<!-- figures: end -->"


def table(results: Path = RESULTS) -> str:
    """Returns the table in Markdown; benchmarks without results are left out."""
    lines = ["| what | measured | command |", "|---|---|---|"]
    for name, rows in (
        ("data_prep", _data_prep),
        ("training", _training),
        ("simulated_lead", _simulated_lead),
        ("movielens_1m", _movielens),
        ("sdim", _sdim),
        ("long_interest", _long_interest),
        ("bse_job", _bse_job),
        ("bse_store", _bse_store),
        ("bse_parity", _bse_parity),
        ("ssl", _ssl),
        ("hcn", _hcn),
        ("hcn_catalogue", _hcn_catalogue),
        ("aw_moe", _aw_moe),
        ("cascade", _cascade),
    ):
        path = results / f"{name}.json"
        if path.exists():
            command = f"`.venv/bin/python -m benchmarks.{name}`"
            lines += [f"| {what} | {figure} | {command} |" for what, figure in rows(json.loads(path.read_text()))]
    return "\n".join(lines)


def write(readme: Path = ROOT / "README.md") -> None:
    """Replaces what stands between the two markers of the README."""
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}", encoding="utf-8")


def _data_prep(found: dict) -> list[tuple[str, str]]:
    ours, memory = found["clickmill"], found["memory"]
    rows = f"{found['impressions'] / 1e6:.0f} million simulated impressions, {found['cores']} cores"
    return [
        (
            f"LogIngest + Vocabulary + FeatureEncoder, {rows}",
            f"{ours['impressions_per_second']:,.0f} impressions/s, peak {ours['peak_mb']:.0f} MB",
        ),
        (
            "the same against the standard ExampleGen + StatisticsGen + Transform (its rate at that size from a line "
            f"through two smaller runs, the larger of {found['standard']['rows']:,} rows)",
            f"{found['ratio']:.0f} times by clock, {found['ratio_cpu']:.0f} times by processor time",
        ),
        ("peak memory, 4 million impressions against 1 million", f"{memory['growth']:.2f} times"),
    ]


def _training(found: dict) -> list[tuple[str, str]]:
    sides, pipeline = found["training"], found["input_pipeline"]
    ours = sides["clickmill"]["per_second"]
    adam = found["optimizers"]["lazy_adam"]["per_second"] / found["optimizers"]["adam"]["per_second"]
    sizes = f"{found['fields']} fields, batch {found['batch_size']}, {found['threads']} threads"

    def beside_rivals(name: str) -> str:
        side, figures = sides[name], []
        for rival, key in (("DeepCTR", "deepctr"), ("FuxiCTR", "fuxictr, batches in memory")):
            clock, cpu = (side[per] / sides[key][per] for per in ("per_second", "per_cpu_second"))
            figures.append(f"{clock:.2f} times {rival} ({cpu:.2f} a processor second)")
        return f"{side['per_second']:,.0f} examples/s: {', '.join(figures)}"

    return [
        (
            f"AutoInt training on requests of {found['candidates_per_request']} candidates ({sizes})",
            beside_rivals("clickmill"),
        ),
        ("the same with one candidate a request", beside_rivals("clickmill, point-wise")),
        (
            "input pipeline alone, against what training consumes",
            f"{pipeline['requests']['per_second'] / ours:.0f} times",
        ),
        (f"lazy Adam against dense Adam, a table of {found['table_rows']:,} rows", f"{adam:.0f} times the steps/s"),
    ]


def _simulated_lead(found: dict) -> list[tuple[str, str]]:
    lead, shuffled, share = found["lead"], found["shuffled"], found["share_of_oracle_lead"]
    return [
        (
            f"AutoInt's test AUC above item CTR, {found['impressions']:,} simulated impressions, "
            f"{len(found['runs'])} seeds",
            f"{lead['mean']:+.3f} (lowest {lead['min']:+.3f}), {share:.0%} of the oracle's lead",
        ),
        ("the same training on shuffled labels", f"AUC {shuffled['autoint']:.4f}"),
    ]


def _movielens(found: dict) -> list[tuple[str, str]]:
    rows = []
    for name, row in found["summary"]["candidates"].items():
        paper = found["summary"]["paper"][row["of"]]
        rows.append(
            (
                f"MovieLens-1M, the AutoInt paper's protocol: `{name}`, {len(row['seeds'])} seed(s); "
                f"paper {paper['auc']} / {paper['log_loss']}",
                f"test AUC {_spread(row['test_auc'])}, log loss {_spread(row['test_log_loss'])}",
            )
        )
    return rows


def _sdim(found: dict) -> list[tuple[str, str]]:
    rows = []
    for run in found["runs"]:
        if run["dim"] == 64:
            sizes = (
                f"1 user x {run['candidates']} candidates, {run['length']} behaviours, d = {run['dim']}, "
                f"m = {run['bits']}"
            )
            for stage, of in (("training", "SDIM, training step"), ("serving", "SDIM from a stored table")):
                times = run[stage]["times_slower"]
                figure = (
                    f"{times['dot_product_plain']:.0f} times faster than dot-product target attention on examples that "
                    f"each carry their history, {times['dot_product']:.1f} times than on requests as here; "
                    f"{times['din_plain']:.0f} and {times['din']:.0f} times than DIN's"
                )
                rows.append((f"{of}, long-history part alone ({sizes})", figure))
    return rows


def _long_interest(found: dict) -> list[tuple[str, str]]:
    names = {"simulated": "planted long-term interest", "movielens_1m": "MovieLens-1M by time"}
    rows = []
    for data, candidates in found["summary"].items():
        for name, row in candidates.items():
            figure = f"test AUC {_spread(row['auc'])}"
            over = row.get("auc_over_short_only")
            if over is not None:
                figure += f"; over `short_only` {over['mean']:+.4f}" + (f" ± {over['std']:.4f}" if over["std"] else "")
            rows.append((f"AutoInt, {names[data]}: `{name}`, {len(row['seeds'])} seed(s)", figure))
    return rows


def _bse_job(found: dict) -> list[tuple[str, str]]:
    users, speed = found["memory"]["users"], found["speed"]
    figure = ", ".join(f"{run['users_per_second']:,} users/s ({name})" for name, run in speed.items())
    return [
        (f"BSE job, {speed['fp32']['behaviors_a_user']:,} behaviours a user, d = {found['dim']}, 2 cores", figure),
        (f"its peak memory, {users[1]:,} users against {users[0]:,}", f"{found['memory']['growth']:.2f} times"),
    ]


def _bse_store(found: dict) -> list[tuple[str, str]]:
    figure = "; ".join(
        f"{name}: p50 {run['get']['p50_microseconds']:.0f} µs, p99 {run['get']['p99_microseconds']:.0f} µs, "
        f"{run['record_bytes']:,} bytes"
        for name, run in found["precisions"].items()
    )
    return [(f"BSE store, {found['users']:,} users, a warm `get` with decoding", figure)]


def _bse_parity(found: dict) -> list[tuple[str, str]]:
    figure = "; ".join(
        f"{name}: {found[name]['largest_change']:.1e} (AUC {found[name]['auc_change']:+.1e})"
        for name in ("fp32", "fp16", "int8")
    )
    return [(f"largest change of a score by the store's precision, {found['requests']:,} requests", figure)]


def _ssl(found: dict) -> list[tuple[str, str]]:
    rows = []
    for data, methods in found["summary"].items():
        for name, row in methods.items():
            figure = f"recall@10 {_spread(row['all']['recall@10'])}, head {_spread(row['head']['recall@10'])}"
            figure += f", tail {_spread(row['tail']['recall@10'])}"
            rows.append((f"two-tower, {data}: `{name}`, {len(row['seeds'])} seed(s)", figure))
    return rows


def _hcn(found: dict) -> list[tuple[str, str]]:
    rows = []
    for data, candidates in found["summary"].items():
        for candidate, row in candidates.items():
            if len(row["seeds"]) < 2:
                continue
            interests, test = row["interests"], row["test"]
            if data == "planted":
                figure = f"purity {_spread(interests['short']['purity'])} (short window)"
            else:
                figure = f"recall@100 of the fine ranker's ten best {_spread(test['soft']['recall@100'])}"
            if interests["valid_interests"]["mean"] > 1:
                figure += f", cosine of interests {_spread(interests['cosine'])}"
            rows.append((f"coarse ranking, {data} log: `{candidate}`, {len(row['seeds'])} seed(s)", figure))
    return rows


def _hcn_catalogue(found: dict) -> list[tuple[str, str]]:
    rows = []
    for candidate, row in found["summary"].items():
        figure = f"recall@200 of the fine ranker's ten best of 100,000 items {_spread(row['recall@200'])}"
        if "hcn_over_it" in row:
            figure += f"; HCN is above by {_spread(row['hcn_over_it'])}"
        rows.append((f"coarse ranking, taught by lists: `{candidate}`, {len(row['seeds'])} seed(s)", figure))
    return rows


def _aw_moe(found: dict) -> list[tuple[str, str]]:
    rows = []
    for data, candidates in found["summary"].items():
        for candidate, row in candidates.items():
            what = f"rankers, {data} log, {row['parameters']:,} parameters: `{candidate}`, {len(row['seeds'])} seed(s)"
            test = row["test"]
            rows.append((what, f"test AUC {_spread(test['auc'])}, PCOC {_spread(test['pcoc'])}"))
    return rows


def _cascade(found: dict) -> list[tuple[str, str]]:
    rows = []
    for cascade, row in found["summary"].items():
        kept, share = row["ndcg"], row["cost_share"]["value"]
        figure = f"{kept['value']:.1%} [{kept['low']:.1%}, {kept['high']:.1%}] at {share:.1%} of its cost"
        rows.append((f"NDCG@10 that cascade `{cascade}` keeps of the fine ranker over 100,000 items", figure))
    return rows


def _spread(value: dict) -> str:
    return f"{value['mean']:.4f}" + (f" ± {value['std']:.4f}" if value["std"] is not None else "")


if __name__ == "__main__":
    write()

"""What a file of experiments may say, and what is said of one that may not."""

import pytest

from features.config import SpecError
from serving.experiments.config import ExperimentsConfig

TWO = [{"name": "a", "share": 5000}, {"name": "b", "share": 5000}]


def layer(**values) -> dict:
    return {"name": "ranker", "salt": "s", "variants": TWO} | values


@pytest.mark.parametrize(
    "layers, said",
    [
        ([layer(variants=[{"name": "a", "share": 9000}, {"name": "b", "share": 1001}])],
         r"layer `ranker`: the shares add up to 10,001, above 10,000 \(a 9000 \+ b 1001\)"),
        ([layer(variants=[{"name": "a", "share": 5000}] * 2)], "`a` stands twice among the variants of layer `ranker`"),
        ([layer(variants=[])], "layers.0.variants"),
        ([layer(variants=[{"name": "a", "share": 0.5}])], r"share.*Received: 0.5"),
        ([layer(variants=[{"name": "a", "share": -1}])], r"share.*Received: -1"),
        ([layer(variants=[{"name": "a|b", "share": 1}])], r"name.*Received: 'a\|b'"),
        ([layer(varients=TWO)], "`layers.0.varients` is not a known key. Did you mean `variants`"),
        ([layer(), layer(salt="t")], "`ranker` stands twice among the layers"),
        ([layer(), layer(name="other")], "`s` stands twice among the salts"),
        ([layer(salt="")], "salt"),
        ([layer(salt="ł" * 33)], "a salt has 64 bytes at most, this one has 66"),
        ([layer(earlier=[{"a": 9000, "b": 2000}])], "the shares of `earlier` version 1 add up to 11,000"),
        ([layer(testers=[1.5])], "testers"),
        ([layer(variants=[{"name": "a", "share": 1, "exploration": {"kind": "egreedy"}}])], "egreedy.*epsilon"),
        ([layer(variants=[{"name": "a", "share": 1, "exploration": {"kind": "epsilon", "epsilon": 0}}])], "epsilon"),
        ([layer(variants=[{"name": "a", "share": 1, "exploration": {"kind": "plackett_luce", "temperature": 0}}])],
         "temperature"),
        ([layer(name=name, salt=name, variants=[{"name": "a", "share": 1, "release": "x"}]) for name in "ab"],
         "layers `a`, `b` all choose releases: of one request only one can"),
        ([layer(name=name, salt=name, variants=[{"name": "a", "share": 1, "exploration": {"kind": "thompson"}}])
          for name in "ab"], "layers `a`, `b` all explore"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_its_place(layers, said):
    with pytest.raises(SpecError, match=said):
        ExperimentsConfig.parse({"layers": layers}, "experiments.yaml")


def test_a_file_is_read(tmp_path):
    path = tmp_path / "experiments.yaml"
    path.write_text(
        """
layers:
  - name: ranker
    salt: ranker-2026
    testers: [7, "7", ann]
    earlier: [{old: 9500, new: 500}]
    variants:
      - {name: old, share: 8000}
      - {name: new, share: 2000, release: canary, exploration: {kind: plackett_luce, temperature: 0.5}}
"""
    )
    (found,) = ExperimentsConfig.load(path).layers
    assert found.testers == (7, "7", "ann") and [type(each) for each in found.testers] == [int, str, str]
    assert found.versions == ({"old": 9500, "new": 500}, {"old": 8000, "new": 2000})
    assert found.variant("new").exploration.temperature == 0.5 and found.variant("none") is None
    assert ExperimentsConfig.parse({}).layers == ()

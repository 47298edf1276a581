"""Seeds of one recipe: told by provenance, whatever the networks are called."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import DIGITS, saved, small_network

from ep_hw.networks import checkpoint, seeds
from ep_hw.networks.checkpoint import load, packaged_models
from ep_hw.networks.seeds import named_networks, same_recipe
from mapping.errors import Refusal

FIELDS = st.dictionaries(st.sampled_from(["epochs", "beta", "teacher"]), st.integers(0, 2))


@given(one=FIELDS, other=FIELDS, numbers=st.tuples(st.integers(), st.integers()), data=st.sampled_from(["a", "b"]))
def test_networks_are_of_one_recipe_where_all_but_the_seed_is_the_same(one, other, numbers, data):
    first, second = ({"recipe": {"data": "a", "seed": n, **fields}, "data": {"name": on}}
                     for n, fields, on in zip(numbers, (one, other), ("a", data)))
    assert same_recipe(first, second) == (one == other and data == "a")
    assert not same_recipe({"recipe": one}, {"recipe": one}), "nothing says how they were trained"


def test_a_further_seed_joins_by_itself_and_another_recipe_never_does(tmp_path, monkeypatch):
    def packaged(*made):
        return {name: saved(small_network(), tmp_path, name, recipe={"data": "digits", "seed": seed, **more})
                for name, seed, more in made}

    known = packaged(("net", 1, {}), ("net-ep-s3", 3, {}), ("net-ep-s4", 4, {"beta": 1}))
    known["net-ep-s5"] = saved(small_network(), tmp_path, "net-ep-s5", recipe={"data": "digits", "seed": 5},
                               data={**DIGITS, "split_seed": 1})
    for module in (seeds, checkpoint):
        monkeypatch.setattr(module, "packaged_models", lambda: known)
    assert named_networks("net") == ("net",)
    assert named_networks("seeds:net") == named_networks("seeds:net-ep-s3") == ("net", "net-ep-s3")
    known |= packaged(("under-another-name", 2, {}))
    assert named_networks("seeds:net") == ("net", "under-another-name", "net-ep-s3")
    assert named_networks("seeds:net-ep-s4") == ("net-ep-s4",)


def test_packaged_seeds_of_one_recipe_are_each_other_s():
    found = named_networks("seeds:cifar10-small")
    assert {"cifar10-small", "cifar10-small-ep-s2"} <= set(found) <= set(packaged_models())
    made = [load(name).provenance for name in found]
    assert all(same_recipe(*pair) for pair in pairwise(made))
    assert "cifar10-small-gain1" not in found


@pytest.mark.parametrize("name", ["seeds:cifar10-paper-random", "seeds:nothing"])
def test_what_was_not_trained_by_a_known_recipe_has_no_seeds(name):
    with pytest.raises(Refusal):
        named_networks(name)

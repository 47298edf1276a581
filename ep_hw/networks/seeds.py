"""Networks of one recipe: what their seeds share, and which of the packaged ones they are."""

from collections.abc import Mapping

from ep_hw.networks.checkpoint import packaged_models, provenance_of
from mapping.errors import Refusal

EVERY = "seeds:"   # before the name of a packaged network: all that were trained as it was


def recipe_of(provenance: Mapping) -> dict | None:
    """All that a network was trained by and on but its seed; None where that is not known, as of an imported one."""
    recipe = {key: value for key, value in provenance.get("recipe", {}).items() if key != "seed"}
    return {"recipe": recipe, "data": provenance.get("data")} if "data" in recipe else None


def same_recipe(one: Mapping, other: Mapping) -> bool:
    """Whether two networks, by their provenances, differ in nothing but the seed of their training."""
    return recipe_of(one) is not None and recipe_of(one) == recipe_of(other)


def named_networks(name: str) -> tuple[str, ...]:
    """The networks that a name stands for: itself, or "seeds:NAME", the packaged ones of NAME's recipe by their seeds.

    Raises:
        Refusal: no such network, or it does not say how it was trained.
    """
    if not name.startswith(EVERY):
        return (name,)
    own = _provenance(name.removeprefix(EVERY))
    every = {known: _provenance(known) for known in packaged_models()}
    alike = [known for known, other in every.items() if same_recipe(own, other)]
    if not alike:
        raise Refusal("no packaged network was trained so", where="networks", got=name,
                      allowed=f"{EVERY}NAME of a packaged network that says how it was trained",
                      remedy="name each network")
    return tuple(sorted(alike, key=lambda known: every[known]["recipe"]["seed"]))


def _provenance(name: str) -> dict:
    header, _ = provenance_of(name)
    return header.model_dump(mode="json")

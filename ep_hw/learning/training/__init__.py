"""Training by recipe: `train(load_recipe("digits"), seed=1, out="mine.safetensors", name="mine")`."""

from ep_hw.learning.training.augmentation import augment
from ep_hw.learning.training.loop import Epoch, rate_at, train
from ep_hw.learning.training.recipe import Recipe, load_recipe, parse_recipe, recipes

__all__ = ["Epoch", "Recipe", "augment", "load_recipe", "parse_recipe", "rate_at", "recipes", "train"]

"""The recipe of a small EP network, which is trained in a second or two: `from recipe import SMALL`."""

from ep_hw.learning.training import Recipe

SMALL = Recipe(data="digits", channels=(4, 6), paddings=(1, 1), pools=(2, 2), free_steps=8, nudged_steps=4, beta=0.5,
               rates=(0.25, 0.15, 0.1), batch=64, epochs=1)

"""Attacks on machines: who sees what, and the worst case for each image over everything tried.

| adversary | sees                                              | threats                        |
| --------- | ------------------------------------------------- | ------------------------------ |
| transfer  | another machine's weights and gradients           | transfer:reference:pgd_l2      |
| white box | the machine's model, its frozen errors, its noise | pgd, cw, deepfool, autoattack  |
| black box | outputs only                                      | square_l2, square_linf, one_pixel |

A white box adapts to the machine it attacks, a transfer does not.
"""

from ep_hw.threats.attacks.apgd import APGD
from ep_hw.threats.attacks.attempt import Attempt, Candidate, decide, majority, read
from ep_hw.threats.attacks.auto import AutoAttack
from ep_hw.threats.attacks.begun import Begun
from ep_hw.threats.attacks.carlini_wagner import CarliniWagner
from ep_hw.threats.attacks.deepfool import DeepFool
from ep_hw.threats.attacks.gradients import Adjoint, Averaged, Gradient, Nudged, Unrolled, parse_gradient
from ep_hw.threats.attacks.norms import differing, noise_like, perturbation
from ep_hw.threats.attacks.one_pixel import OnePixel
from ep_hw.threats.attacks.pgd import PGD
from ep_hw.threats.attacks.settings import DEFAULT_UNROLL, AttackSettings, possible_gradients
from ep_hw.threats.attacks.square import Square
from ep_hw.threats.attacks.worst_case import TRANSFERRED, Attacked, attack, fools, judge
from ep_hw.threats.definitions import Attack

__all__ = [
    "APGD",
    "DEFAULT_UNROLL",
    "PGD",
    "TRANSFERRED",
    "Adjoint",
    "Attack",
    "AttackSettings",
    "Attacked",
    "Attempt",
    "AutoAttack",
    "Averaged",
    "Begun",
    "Candidate",
    "CarliniWagner",
    "DeepFool",
    "Gradient",
    "Nudged",
    "OnePixel",
    "Square",
    "Unrolled",
    "attack",
    "decide",
    "differing",
    "fools",
    "judge",
    "majority",
    "noise_like",
    "parse_gradient",
    "perturbation",
    "possible_gradients",
    "read",
]

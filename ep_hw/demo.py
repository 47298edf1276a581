"""The main job on the packaged digits network, sized to finish in about a minute on two cores."""

from dataclasses import replace

from ep_hw.evaluation.execution import Run
from ep_hw.evaluation.plan import Limits, Plan
from ep_hw.evaluation.suites import Request
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.threat import parse_threat
from ep_hw.workflow import plan_evaluation
from mapping.registry import parse

MODEL = "digits"
IMAGES, CHIPS, PROBED = 48, 3, 8
MACHINES = ("reference", "loihi", "crossbar:pcm")
ATTACKS = ("pgd_l2@0.5", "pgd_l2@1")
CORRUPTIONS = ("gaussian_noise@5", "contrast@5", "jpeg_compression@5")
EXTRA = {"reference": ("square_l2@1",), "loihi": ("square_l2@1",),
         "lava": ("clean", "transfer:loihi:pgd_l2@0.5", "jpeg_compression@5")}
SETTINGS = AttackSettings(gradients=("bptt@5", "bptt@10", "ep@2:margin"), iterations=5, queries=60, eot=1, votes=3)


def demo_plan(run: Run | None = None) -> Plan:
    """Reference, Loihi twin and PCM chips attacked and corrupted; real Lava runs the clean and the attacked images."""
    threats = [parse_threat(text) for text in (*ATTACKS, *CORRUPTIONS)]
    extra = [(target, parse_threat(text)) for machine, texts in EXTRA.items()
             for target in [parse(machine)] for text in texts]
    request = Request(MACHINES, threats, images=IMAGES, chips=CHIPS, settings=SETTINGS, extra_pairs=extra)
    return replace(plan_evaluation(MODEL, request, run=run), limits=Limits(probed=PROBED))

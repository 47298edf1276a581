"""Tuning in situ: a programmed chip goes on learning by equilibrium propagation, from phases run on itself.

    program = mapping.compile(net.lower(), "crossbar:pcm[age=30d,drift_compensation=off]")
    begun = begin(program, chip_seed=3)
    learned = tune_epoch(program, begun, train, TuningSettings(), writing_of("pcm"), seed=0)
    CrossbarMachine(program, chip=learned.chip)
"""

from ep_hw.learning.in_situ.settings import TuningSettings
from ep_hw.learning.in_situ.tuner import Progress, begin, tune_epoch

__all__ = ["Progress", "TuningSettings", "begin", "tune_epoch"]

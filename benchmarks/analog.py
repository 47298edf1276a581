"""How many images a second a PCM crossbar answers, side by side with aihwkit.

    python -m benchmarks.analog [REPEATS]

The BP-CNNs of digits and of CIFAR-10, packaged, on one PCM chip an hour old: 256 x 256 tiles, 8-bit converters of fixed
ranges, drift compensation, with and without read noise at every read (as each of the two has it, referred to the
output). aihwkit reads noise in its C++ tiles; without it its torch tiles are its fastest, and are compared too. Both
sides take turns on one thread; a ratio is one of medians of CPU seconds. Measured on a busy EPYC on 30 November 2026:
with read noise 10.8 to 11.5 times as many images of digits as aihwkit 1.2.0 and 14 of CIFAR-10, without it 8.3 to 8.4
and 7.0, against its torch tiles 5.3 to 5.5 and 5.1; at the shortest times that these ever took, 22 ms for digits, 4.2.
"""

import sys
from functools import partial

import torch

import ep_hw
import mapping
import simulators
from benchmarks.kit import Timing, missing, packed
from benchmarks.turns import HEADER, Row, help_if_asked, take_turns, timed

IMAGES = {"digits-bp-s11": (360, 1, 8, 8), "cifar10-small-bp": (64, 3, 32, 32)}
ROWS = (("noisy", "", "read noise / C++ tiles", 4.0), ("quantised", "[without=read]", "no read noise / C++ tiles", 4.0),
        ("torch", "[without=read]", "no read noise / torch tiles", 4.0))
HOUR_S = 3600.0


def compare(name: str, shape: tuple[int, ...], repeats: int) -> list[Row]:
    """One network, its converters calibrated on the images that it meets."""
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    graph = ep_hw.lower(ep_hw.load(name).module, images)
    theirs, rows = Timing(packed(graph, images.numpy(), (HOUR_S,))), []
    for configuration, options, what, goal in ROWS:
        machine = simulators.open(mapping.compile(graph, f"crossbar:pcm{options}"))
        (_, ours), (seconds,) = take_turns(repeats, partial(timed, partial(machine.relax, images)),
                                           partial(theirs.times, configuration))
        rows.append(Row(f"{name}, {len(images)} images, {what}", ours, seconds, goal, faster=True))
    theirs.close()
    return rows


def main():
    help_if_asked(__doc__)
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    torch.set_num_threads(1)
    if reason := missing():
        sys.exit(f"no aihwkit here: {reason}")
    print(HEADER)
    for name, shape in IMAGES.items():
        for row in compare(name, shape, repeats):
            print(row, f" {shape[0] / row.ours:.0f} and {shape[0] / row.theirs:.0f} images a second", flush=True)


if __name__ == "__main__":
    main()

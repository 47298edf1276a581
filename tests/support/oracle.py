"""A Loihi program in plain Python integers and lists, one image at a time: slow, and written from the equations.

Equations (9), (11), (12) of mapping.loihi.integers and mapping.loihi.program. A map is a list of channels of rows of
integers.
"""

import math
from collections import Counter
from itertools import product

from mapping.loihi.placement import place

ERROR_BITS, GAP_BITS, GAP_LIMIT = 15, 8, 16


class Oracle:
    """One image's relaxation.

    Attributes:
        states: of every layer, now. sent: what others know of them.
        met: how often it met a pool tie ("tie"), and a state below 0 ("low") or above the largest ("high"); the largest
            sum as a fraction of its proven bound ("bound").
    """

    def __init__(self, program, image, target=None, beta: int = 0, loss: str = "cross_entropy"):
        self.program, self.image, self.met = program, image, Counter()
        self._target, self._beta, self._loss = target, beta, loss
        self.states = [zeros(p.shape) for p in program.graph.populations]
        self.sent = self.states
        self._time = 0
        self._lost = [b for b in place(program.graph, program.target).blocks if b.core == program.target.lost_core]

    def step(self):
        """One time step of the program's schedule."""
        drives, sent = self._drives(), self.sent
        new = [self._activate(n, drive) for n, drive in enumerate(drives)]
        period = {"synchronous": 1, "alternating": 2, "sequential": len(new)}[self.program.graph.schedule]
        active = [n % period == self._time % period for n in range(len(new))]
        self.states = [s if now else old for s, old, now in zip(new, self.states, active)]
        self.sent = [self._emit(s, known) for s, known in zip(self.states, sent)]
        self._time += 1

    def logits(self, top):
        """Logits of the top states, in units of 2^-scale."""
        layer = self.program.readout
        units = [v for channel in top for row in channel for v in row]
        return self._of_logits(sum(w * v for w, v in zip(flat(rows), units)) + int(b)
                               for rows, b in zip(layer.weight.tolist(), layer.bias))

    def _without(self, values, layer, part="forward"):
        """A map, overwritten by 0 where a part's units lie on the lost core."""
        for block in self._lost:
            if (block.layer, block.part) == (layer, part):
                for c, i, j in product(*(range(*ends) for ends in (block.channels, block.rows, block.columns))):
                    values[c][i][j] = 0
        return values

    def _of_logits(self, values):
        """A value of each logit, 0 where it lies on the lost core."""
        return flat(self._without([[[value]] for value in values], self.program.graph.readout.name))

    def _emit(self, state, known):
        delta_threshold = self.program.delta_threshold
        if delta_threshold is None:
            return state
        return join(lambda s, k: s if abs(s - k) > delta_threshold else k, state, known)

    def _drives(self):
        """Sum of all drives of each layer, without bias."""
        graph, layers = self.program.graph, self.program.layers
        reads = [self._forward(layer, coupling, below) for layer, coupling, below in
                 zip(layers, graph.couplings, [self.image, *self.sent[:-1]])]
        drives = [drive for drive, _ in reads]
        for n in range(1, len(layers)):
            if not graph.couplings[n].feedback_gain:
                continue
            back = feedback(layers[n], graph.couplings[n], self.sent[n], reads[n][1], layers[n - 1].backward_shift)
            drives[n - 1] = join(int.__add__, drives[n - 1], self._without(back, graph.couplings[n].name, "feedback"))
        if self._beta:
            drives[-1] = join(int.__add__, drives[-1], self.pull(self.sent[-1]))
        return drives

    def _forward(self, layer, coupling, below):
        """Pooled drive, and the place (row, column) of each window's winner, the first of equals."""
        _, height, width = coupling.post
        weight, side = layer.weight.tolist(), coupling.pool
        drive, winners = [], []
        for kernel in weight:
            full = convolve(kernel, below, coupling)
            places = [[self._winner(full, side * i, side * j, side) for j in range(width)] for i in range(height)]
            winners.append(places)
            drive.append([[full[i][j] << layer.forward_shift for i, j in row] for row in places])
        return drive, winners

    def _winner(self, full, top, left, side):
        places = [(top + i, left + j) for i, j in product(range(side), repeat=2)]
        values = [full[i][j] for i, j in places]
        self.met["tie"] += values.count(max(values)) > 1
        return places[values.index(max(values))]

    def _activate(self, n, drive):
        layer, largest = self.program.layers[n], self.program.tops[n]
        state = []
        for channel, bias in zip(drive, layer.bias.tolist()):
            sums = [[v + bias for v in row] for row in channel]
            proven = 2**23 if self._beta and n + 1 == len(self.states) else layer.bound   # bounds leave out the nudge
            self.met["bound"] = max(self.met["bound"], *(abs(v) / proven for row in sums for v in row))
            rounded = [[round_half_up(v, layer.shift) for v in row] for row in sums]
            self.met["low"] += sum(v < 0 for row in rounded for v in row)
            self.met["high"] += sum(v > largest for row in rounded for v in row)
            state.append([[min(max(v, 0), largest) for v in row] for row in rounded])
        return self._without(state, self.program.graph.couplings[n].name)

    def pull(self, top):
        """Drive of the nudge, from the top states."""
        logits, weight = self.logits(top), self.program.readout.weight.tolist()
        error = self._of_logits((margin if self._loss == "margin" else cross_entropy)(
            logits, self._target, self.program.readout.scale))
        pulls = []
        for c, channel in enumerate(top):
            sums = [[self._beta * sum(e * w[c][i][j] for e, w in zip(error, weight)) for j in range(len(row))]
                    for i, row in enumerate(channel)]
            pulls.append([[round_half_up(v, self.program.nudge_shift) for v in row] for row in sums])
        return pulls


def zeros(shape):
    channels, height, width = shape
    return [[[0] * width for _ in range(height)] for _ in range(channels)]


def flat(nested):
    """All integers of nested lists, in order."""
    return [nested] if isinstance(nested, int) else [v for part in nested for v in flat(part)]


def join(function, a, b):
    """Two maps, value by value."""
    return [[[function(x, y) for x, y in zip(*rows)] for rows in zip(*channels)] for channels in zip(a, b)]


def round_half_up(x: int, shift: int) -> int:
    """x 2^-shift to the nearest integer, a half upwards: floor((2 x + 2^shift) / 2^(shift + 1))."""
    return (2 * x + 2**shift) // 2 ** (shift + 1) if shift >= 0 else x * 2**-shift


def convolve(kernel, below, coupling):
    """One output channel."""
    def at(i, j):
        total = 0
        for plane, taps in zip(below, kernel):
            for (a, row), b in product(enumerate(taps), range(len(taps[0]))):
                y, x = i * stride + a - padding, j * stride + b - padding
                if 0 <= y < len(plane) and 0 <= x < len(plane[0]):
                    total += row[b] * plane[y][x]
        return total

    (_, height, width), padding, stride = coupling.unpooled, coupling.padding, coupling.stride
    return [[at(i, j) for j in range(width)] for i in range(height)]


def feedback(layer, coupling, above, winners, down):
    """Drive of the layer below: every state above goes back through the kernel, laid on its window's winner."""
    out = zeros(coupling.pre)
    for kernel, values, places in zip(layer.weight.tolist(), above, winners):
        for value, (i, j) in zip(flat(values), [site for row in places for site in row]):
            for plane, taps in zip(out, kernel):
                for (a, row), b in product(enumerate(taps), range(len(taps[0]))):
                    y, x = i * coupling.stride + a - coupling.padding, j * coupling.stride + b - coupling.padding
                    if 0 <= y < len(plane) and 0 <= x < len(plane[0]):
                        plane[y][x] += row[b] * value << down
    return out


def cross_entropy(logits, target, scale):
    """target - softmax, in 2^-15, of logits in 2^-scale."""
    gaps = [round_half_up(max(logits) - z, scale - GAP_BITS) for z in logits]
    limit = GAP_LIMIT << GAP_BITS
    e = [math.floor(2**ERROR_BITS * math.exp(-min(gap, limit) / 2**GAP_BITS) + 0.5) for gap in gaps]
    return [t - (2**ERROR_BITS * x) // sum(e) for t, x in zip(target, e)]


def margin(logits, target, scale):
    """1 for the target's class and -1 for its first strongest rival, in 2^-15."""
    own = target.index(max(target))
    rivals = [k for k in range(len(logits)) if k != own]
    rival = max(rivals, key=lambda k: (logits[k], -k))
    return [((k == own) - (k == rival)) << ERROR_BITS for k in range(len(logits))]

"""Expectations of the Loihi rungs, from the integers themselves.

    weights   W is the integer of the program's bits nearest to w 2^q, in units of mapping.loihi.scaling (18); B is
              b 2^E, rounded, or corrected by no more than the errors of the weights can do                   (1)
    states    all shifts follow from the exponents, `mapping.loihi.program` (10) to (12); a step is the
              exact one within half a unit of the state and what rounding the image does to the first drive   (2)
    Lava      exactly what the twin computes                                                                  (3)
    dead      neurons and logits answer 0                                                                     (4)
"""

from collections.abc import Sequence
from itertools import repeat

import numpy as np
from torch import Tensor

from ep_hw.diagnosis.divergence import States, traced
from ep_hw.diagnosis.finding import Finding, Scene, different_network, judged, largest, step_findings
from ep_hw.diagnosis.transformations import explain_weights
from ep_hw.diagnosis.variants import EXACT, model_of, moves, reproduce
from mapping.graph import Coupling, EPGraph
from mapping.loihi.integers import quantise, round_half_up, round_to_power
from mapping.loihi.program import IntegerLayer, LoihiProgram
from mapping.loihi.scaling import rescaled
from mapping.program import Program
from simulators.loihi.grid import on_grid
from simulators.machine import InProcessMachine, Machine

_FLOAT32 = 1e-5   # of a step in float32: resolution times the number of summands


def integer_weights(program: LoihiProgram, machine: Machine, scene: Scene) -> list[Finding]:
    """Weights are the nearest integers, `ep_hw.diagnosis.integers` (1), and the float machine runs them rightly."""
    rung = program.target.shown
    findings = different_network(rung, program.graph, scene)
    couplings = _scaled(program, scene)
    for layer, coupling in zip(_layers(program), couplings):
        others = [other for other in couplings if other is not coupling]
        findings.append(_weights(rung, layer, coupling, others, program.target.weight_bits))
    return _and_a_step(findings, program, machine, scene, program.dequantised(), _resolution(program))


def _scaled(program: LoihiProgram, scene: Scene) -> tuple[Coupling, ...]:
    """The network's couplings in the program's units, the readout last."""
    graph = rescaled(scene.graph, program.scales)
    return (*graph.couplings, graph.readout)


def _resolution(program: LoihiProgram) -> list[float]:
    """What a step in float32 may be off by, in each layer."""
    return [_FLOAT32 * max(1.0, scale) for scale in program.scales]


def _weights(rung: str, layer: IntegerLayer, coupling: Coupling, others: Sequence[Coupling], bits: int) -> Finding:
    def project(w: np.ndarray) -> np.ndarray:
        return quantise(w, bits, layer.exponent)

    exact = coupling.weight.astype(np.float64) * 2.0**layer.exponent
    error, allowed = np.abs(layer.weight - exact), np.abs(project(coupling.weight) - exact)
    worst = np.unravel_index((error - allowed).argmax(), error.shape)
    wrong: np.ndarray = np.any(error > allowed, axis=(2, 3))
    return judged(rung, coupling.name, "weight error, units of 2^-q", error[worst], allowed[worst],
                  lambda: explain_weights(coupling.weight, layer.weight, project, wrong,
                                          others=[(c.name, c.weight) for c in others]))


def integer_states(program: LoihiProgram, machine: Machine, scene: Scene) -> list[Finding]:
    """Biases, `ep_hw.diagnosis.integers` (1), shifts, and a step of integer states (2)."""
    findings = [_bias(program, n, coupling) for n, coupling in enumerate(_scaled(program, scene))]
    findings += [f for n in range(len(program.layers)) for f in _shifts(program, n)]
    graph = program.dequantised()
    return _and_a_step(findings, program, machine, scene, graph, _rounding(program, graph))


def rounded_states(program: LoihiProgram, machine: Machine, scene: Scene) -> list[Finding]:
    """A step of integer states, `ep_hw.diagnosis.integers` (2), where weights are floats."""
    graph = program.graph
    return _and_a_step(different_network(program.target.shown, graph, scene), program, machine, scene, graph,
                       _rounding(program, graph))


def dead_units(program: LoihiProgram, machine: Machine, scene: Scene) -> list[Finding]:
    """Dead neurons and logits answer 0, `ep_hw.diagnosis.integers` (4)."""
    assert program.alive is not None, "something is dead"
    end, rung, findings = machine.relax(scene.images, scene.graph.period), program.target.shown, []
    names = (*_populations(program)[:len(end.states)], "readout")
    for name, values, alive in zip(names, (*end.states, end.logits), (*program.alive.neurons, program.alive.logits)):
        answers = float((values.detach().cpu().numpy() * ~alive).max())
        findings.append(judged(rung, name, "answer of what is dead", abs(answers), 0, "its dead units answer"))
    return findings


def delta_threshold(program: LoihiProgram, machine: Machine, scene: Scene) -> list[Finding]:
    """A population keeps back no change larger than the threshold, and none once it is zero."""
    assert isinstance(machine, InProcessMachine), "the twin runs in this process"
    findings = []
    for n, (state, population) in enumerate(zip(machine.substrate.hold(scene.states), program.graph.populations)):
        sent = state.flip(1)   # any other states of the right shape
        kept = largest(state - machine.substrate.emit(n, state, sent))
        findings.append(judged(program.target.shown, population.name, "change held back, units of 2^-p", kept,
                               program.delta_threshold or 0))
    return findings


def lava_processes(program: Program, machine: Machine, scene: Scene) -> list[Finding]:
    """A sweep on Lava ends as on its model, `ep_hw.diagnosis.integers` (3); the first step that differs is judged."""
    rung, period, allowed = program.target.shown, scene.graph.period, EXACT
    starts: Sequence[States | None] = scene.starts if scene.graph.has_feedback else [None]
    if isinstance(program, LoihiProgram):
        starts, allowed = [states and on_grid(program, states) for states in starts], 0.0
    for states in starts:
        gaps, logits = _sweep_gaps(machine, model_of(program), scene.images, states, period)
        first = next((step for step in gaps if max(step) > allowed), gaps[-1])
        if max(*first, logits) > allowed:
            return _process_fault(program, machine, scene, starts, [*first, logits])
    return [Finding(rung, layer, "gap to the model", gap, allowed)
            for layer, gap in zip(_populations(program), [*first, logits])]


def _process_fault(program: Program, machine: Machine, scene: Scene, starts: Sequence[States | None],
                   gaps: list[float]) -> list[Finding]:
    """The fault that explains a gap; without one, the layers that have it."""
    rung = program.target.shown
    if variant := reproduce(program, machine, scene.images, starts, scene.graph.schedule, built_in=True):
        return [Finding(rung, variant.layer, "gap to the model", max(gaps), 0.0, variant.fault)]
    if out_of_turn := _out_of_turn(program, machine, scene.images, starts[-1]):
        layer, fault = out_of_turn
        return [Finding(rung, layer, "gap to the model", max(gaps), 0.0, fault)]
    return [judged(rung, layer, "gap to the model", gap, 0.0) for layer, gap in zip(_populations(program), gaps)]


def _populations(program: Program) -> list[str]:
    return [*(p.name for p in program.graph.populations), "readout"]


def _sweep_gaps(machine: Machine, model: Machine, images: Tensor, states: States | None,
                steps: int) -> tuple[list[list[float]], float]:
    """Largest gap of each layer after each step, and of the logits at the end, relative to the largest logit."""
    (end, seen), (honest, wanted) = (traced(m, images, steps, states=states) for m in (machine, model))
    gaps = [[largest(a - b) for a, b in zip(*pair)] for pair in zip(seen, wanted)]
    return gaps, largest(end.logits - honest.logits) / max(largest(honest.logits), 1e-9)


def _out_of_turn(program: Program, machine: Machine, images: Tensor, states: States | None) -> tuple[str, str] | None:
    """A population that changes in other steps than its model does, and the fault in words."""
    steps = 2 * machine.graph.period
    seen, wanted = (moves(m, images, states, steps) for m in (machine, model_of(program)))
    for n, population in enumerate(program.graph.populations):
        ours, theirs = ([t + 1 for t, layers in enumerate(turns) if n in layers] for turns in (seen, wanted))
        if ours != theirs:
            return population.name, f"it updates out of turn: at steps {ours or 'never'} of {steps}, not {theirs}"
    return None


def _bias(program: LoihiProgram, n: int, coupling: Coupling) -> Finding:
    layer = _layers(program)[n]
    unit = 2.0**-layer.scale
    bias = coupling.bias.astype(np.float64)
    off = np.abs(layer.bias * unit - bias)

    def project(b: np.ndarray) -> np.ndarray:
        return round_half_up(b / unit)

    wrong = layer.bias != project(bias)
    known = explain_weights(_column(bias), _column(layer.bias), project, _column(wrong)[:, :, 0, 0],
                            noun="biases") if wrong.any() else None
    allowed = unit / 2 + (0 * off if known else _correction(program, n, coupling))
    worst = (off / allowed).argmax()
    return judged(program.target.shown, coupling.name, "bias error", off[worst], allowed[worst], lambda: known)


def _column(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 1, 1, 1)


def _correction(program: LoihiProgram, n: int, coupling: Coupling) -> np.ndarray:
    """(C_out,) most that the errors of the weights can do to the drives that a coupling makes, states being at most 1.

    Args:
        program: whose errors these are.
        n: the coupling's place.
        coupling: in the program's units.
    """
    graph, layer = program.graph, _layers(program)[n]
    reach = np.ones(coupling.weight.shape[1])
    if n == 0:
        reach = np.maximum(np.abs(graph.mean), np.abs(1 - graph.mean)) / graph.scale
    error = np.abs(layer.weight * 2.0**-layer.exponent - coupling.weight)
    return (error * reach[:, None, None]).sum((1, 2, 3))


def _shifts(program: LoihiProgram, n: int) -> list[Finding]:
    layer, gain = program.layers[n], program.scaled.gains[n + 1]
    below = program.input_bits if n == 0 else program.state_bits
    slope_bits = round_to_power(program.graph.populations[n].slope)
    forward = layer.scale - layer.exponent - below
    wanted = {"shift": (layer.scale - program.state_bits - slope_bits, "shift to the state", "states are 2^{} times"),
              "forward_shift": (forward, "shift of the forward drive", "forward drives are 2^{} times")}
    if gain:
        backward = layer.scale - program.layers[n + 1].exponent - program.state_bits + round_to_power(gain)
        wanted["backward_shift"] = backward, "shift of the feedback", "feedback drives are 2^{} times"
    return [_shift(program.target.shown, layer, field, *rest) for field, rest in wanted.items()]


def _shift(rung: str, layer: IntegerLayer, field: str, expected: int, words: str, effect: str) -> Finding:
    k = getattr(layer, field) - expected
    power = -k if field == "shift" else k
    return judged(rung, layer.name, f"{words}, bits off", abs(k), 0,
                  f"its {words} is off by {k:+d}: its {effect.format(power)} what they should be")


def _rounding(program: LoihiProgram, graph: EPGraph) -> list[float]:
    """Largest deviation of states from an exact step of `graph` in each layer, `ep_hw.diagnosis.integers` (2)."""
    first = graph.populations[0].slope * np.abs(graph.couplings[0].weight).sum((1, 2, 3)).max()
    image = [first * 2.0 ** -(program.input_bits + 1), *repeat(0.0, len(graph.couplings) - 1)]
    return [unit / 2 + more + own for unit, more, own in zip(program.units, _resolution(program), image)]


def _and_a_step(findings: list[Finding], program: LoihiProgram, machine: Machine, scene: Scene, graph: EPGraph,
                allowed: Sequence[float]) -> list[Finding]:
    """The findings and, where the program is without fault, those of a step that its machine takes."""
    if any(f.fault for f in findings):
        return findings
    starts: Sequence[States] = scene.starts
    tops: Sequence[float] = ()
    if program.target.quantises_states:
        starts = [on_grid(program, states) for states in starts]
        tops = [top * unit for top, unit in zip(program.tops, program.units)]
    return findings + step_findings(program.target.shown, machine, graph, scene.images, starts, allowed, tops=tops,
                                    fault=lambda: _machine_fault(program, machine, scene, starts))


def _machine_fault(program: LoihiProgram, machine: Machine, scene: Scene, starts: Sequence[States]) -> str | None:
    variant = reproduce(program, machine, scene.images, starts, "synchronous")
    return f"{variant.fault} (in {variant.layer}, where it runs; the program is right)" if variant else None


def _layers(program: LoihiProgram) -> tuple[IntegerLayer, ...]:
    return (*program.layers, program.readout)

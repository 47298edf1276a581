"""What is said of the feedback gains of networks: gamma of `mapping.graph` (2), 1 in the paper."""

from collections.abc import Mapping, Sequence

Gain = float | Sequence[float]   # one of all layers, or one a layer


def stated_gain(provenance: Mapping) -> Gain | None:
    """The feedback gain that a network's provenance names; None where it is no EP network's."""
    return provenance.get("spec", {}).get("feedback_gain")


def gain_text(gain: Gain | None) -> str:
    """A gain in words; nothing of a network that has none."""
    if gain is None:
        return ""
    return f"{gain:g}" if isinstance(gain, int | float) else f"({', '.join(map(gain_text, gain))})"


def gains_said(gains: Mapping[str, Gain | None]) -> tuple[str, ...]:
    """The gains of compared networks in a sentence; none where no network has one.

    Args:
        gains: network -> its gain, None where it is no EP network.
    """
    alike: dict[str, list[str]] = {}
    for name, gain in gains.items():
        alike.setdefault(gain_text(gain), []).append(name)
    said = [f"{text} of {', '.join(names)}" for text, names in alike.items() if text]
    return (f"Feedback gain (gamma, 1 in the paper): {'; '.join(said)}.",) if said else ()

"""What a Loihi 2 chip holds: a versioned table with a source and a confidence for every number.

No simulator checks these limits, so the compiler does (mapping.loihi.placement). Only the entries whose `chip` is
Loihi 2 bind; those of Loihi 1 stand for comparison where nothing is published for Loihi 2.
"""

from dataclasses import dataclass

LIMITS_VERSION = 1

_BRIEF = "Intel, Loihi 2 technology brief, 2021"
_LOIHI_1 = "Davies et al., Loihi, IEEE Micro 2018"
_LAVA = "lava-nc 0.10"
_OURS = "this project"


@dataclass(frozen=True)
class Limit:
    """One number of the table.

    Attributes:
        chip: "Loihi 2" or "Loihi 1".
        confidence: "published", "to be confirmed" (seen in secondary sources only), or "assumed".
    """

    name: str
    value: int
    unit: str
    chip: str
    source: str
    confidence: str


LIMITS = {limit.name: limit for limit in (
    Limit("cores a chip", 128, "cores", "Loihi 2", _BRIEF, "published"),
    Limit("neurons a core", 8192, "neurons", "Loihi 2", _BRIEF, "published"),
    Limit("neurons a chip", 2**20, "neurons", "Loihi 2", _BRIEF, "published"),
    Limit("synapses a chip", 120_000_000, "stored weights", "Loihi 2", _BRIEF, "published"),
    Limit("memory a core", 192 * 1024, "bytes", "Loihi 2", "secondary reports; others say 128 KiB",
          "to be confirmed"),
    Limit("state bits", 24, "bits", "Loihi 2", f"{_LAVA}, whose accumulators wrap there", "to be confirmed"),
    Limit("weight bits", 8, "bits, at most", "Loihi 2", f"{_LAVA}, Dense and Conv", "published"),
    Limit("message bits", 32, "bits, at most", "Loihi 2", f"{_BRIEF}; {_LAVA} carries 24", "published"),
    Limit("memory a neuron", 6, "bytes", "Loihi 2", f"{_OURS}: a 24-bit accumulator and a 24-bit state", "assumed"),
    Limit("memory an input axon", 4, "bytes", "Loihi 2", f"{_OURS}: a source's address and offset", "assumed"),
    Limit("neurons a core, Loihi 1", 1024, "neurons", "Loihi 1", _LOIHI_1, "published"),
    Limit("synapse memory a core, Loihi 1", 2**20 // 8, "bytes", "Loihi 1", _LOIHI_1, "published"),
    Limit("input axons a core, Loihi 1", 4096, "axons", "Loihi 1", _LOIHI_1, "published"),
    Limit("output axons a core, Loihi 1", 4096, "axons", "Loihi 1", _LOIHI_1, "published"),
)}


def limit(name: str) -> int:
    """Value of an entry of the table."""
    return LIMITS[name].value

"""Runs a mapped network in SANA-FE, in an interpreter of its own: python sanafe_peer.py network.json counts.json.

Units are neurons that are read and updated at every step and never fire; beside each stands a source on the same core
that fires when the network's unit sends, and costs no more than that. Sources have the synapses.
"""

import json
import sys
import tempfile
from collections import Counter
from importlib.resources import files
from pathlib import Path

import sanafe

HARDWARE = {"default_synapse_hw_name": "loihi_dense_synapse", "default_dendrite_hw_name": "loihi_dendrites"}


def architecture():
    """SANA-FE's own Loihi, whose sources pay for a spike what a neuron pays."""
    text = (files("sanafe.examples") / "loihi.yaml").read_text()
    folder = Path(tempfile.mkdtemp())
    (folder / "loihi.yaml").write_text(text.replace("energy_spike_out: 0.0", "energy_spike_out: 69.3e-12"))
    return sanafe.load_arch(str(folder / "loihi.yaml"))


def main():
    asked, arch = json.loads(Path(sys.argv[1]).read_text()), architecture()
    net, cores, taken, groups = sanafe.Network(), arch.cores(), Counter(), {}
    for name, group in asked["units"].items():
        groups[name] = net.create_neuron_group(name, len(group["cores"]), **HARDWARE)
        for neuron, core in zip(groups[name].neurons, group["cores"]):
            neuron.set_attributes(soma_hw_name="loihi_lif", model_attributes={"threshold": 1e9})
            neuron.map_to_core(cores[core])
    for name, group in asked["sources"].items():
        groups[name] = net.create_neuron_group(f"source {name}", len(group["cores"]), **HARDWARE)
        for neuron, core, spikes in zip(groups[name].neurons, group["cores"], group["spikes"]):
            neuron.set_attributes(soma_hw_name=f"loihi_inputs[{taken[core]}]", model_attributes={"spikes": spikes})
            neuron.map_to_core(cores[core])
            taken[core] += 1
        for target, pairs in group["synapses"].items():
            groups[name].connect_neurons_sparse(groups[target], {"weight": [1.0] * len(pairs)},
                                                [tuple(pair) for pair in pairs])
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    found = chip.sim(asked["steps"], timing_model="simple")
    kept = ("energy", "sim_time", "spikes", "packets_sent", "neurons_fired", "neurons_updated")
    Path(sys.argv[2]).write_text(json.dumps({key: found[key] for key in kept}))


if __name__ == "__main__":
    main()

"""What Lammie et al. print of adversarial success on a chip of phase-change memory, to stand beside what is measured.

Their network is a ResNet9 on CIFAR-10, trained with noisy weights. Successes are curves there, without numbers; what
the text says of them are the orders of `FINDINGS`.
"""

SOURCE = "Lammie et al., Nat. Commun. 16, 1756 (2025)"
ACCURACY = {"model": 0.8485, "chip": 0.8431}   # of clean images
DROP = {"model": 0.0357, "chip": 0.0411}       # of accuracy, against the float network
REPEATS = 10                                   # of what noisy machines are shown
FINDINGS = {
    "platforms": "success falls from the float network to the retrained one, to 4-bit weights, to the chip",
    "chip itself": "attacks made on the chip succeed more often than those from its model, and less often than attacks "
                   "on the digital platform",
    "noise": "at the same accuracy output noise protects most, weight noise least",
}

"""What a run hands to the report: plain values, no torch."""

from dataclasses import dataclass

import numpy as np

from mapping.program import Table


@dataclass(frozen=True, eq=False)
class GalleryItem:
    """One image before and after an attack.

    Attributes:
        machine: the machine that was attacked. threat, strength: the attack and its budget.
        image_id: number of the image in its data set. label: its true class.
        clean, adversarial: (C, H, W) in [0, 1].
        clean_prediction, adversarial_prediction: the machine's classes.
        reference_prediction: the reference's class of the adversarial image.
    """

    machine: str
    threat: str
    strength: float
    image_id: int
    label: int
    clean: np.ndarray
    adversarial: np.ndarray
    clean_prediction: int
    adversarial_prediction: int
    reference_prediction: int


@dataclass(frozen=True, eq=False)
class RunRecord:
    """Everything a report shows.

    Attributes:
        title: heading of the report. command: the command line that made it.
        summary: one dict a cell with model, dataset, machine, threat, strength, chip_seed, n, accuracy, ci_low,
            ci_high (Wilson), agreement, flips_to_wrong, flips_to_right (against the reference on the same images),
            seconds and key; further fields are ignored.
        gallery: adversarial images. mapping: the compilers' reports.
        waterfalls: target -> ordered (machine, cause) rungs, ("reference", "digital reference") first; each cause is
            what its machine adds to the one before.
        versions, seeds: of every package and generator that decided a number.
        notes: remarks of the evaluation. flags: violated trust checks, shown as a red banner.
    """

    title: str
    command: str
    summary: list[dict]
    gallery: list[GalleryItem]
    mapping: list[Table]
    waterfalls: dict[str, list[tuple[str, str]]]
    versions: dict[str, str]
    seeds: dict[str, object]
    notes: list[str]
    flags: list[str]

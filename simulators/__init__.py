"""simulators: machines that run programs.

    with simulators.open(program, chip_seed=3) as machine:
        equilibrium = machine.relax(images)

Importing this package is cheap and loads no torch: Lava's fresh interpreter imports it too.
"""

__all__ = ["open"]


def open(program, *, chip_seed: int = 0, device: str = "cpu"):
    """The machine that runs a program.

    Args:
        program: from `mapping.compile` or `mapping.load_program`.
        chip_seed: which chip is programmed (crossbars); read noise comes from the generator given to `relax`.
        device: "cpu" or "cuda" (machines that compute with torch).

    Raises:
        Refusal: Lava or the device is not available.
    """
    from simulators.registry import open_machine

    return open_machine(program, chip_seed=chip_seed, device=device)

"""Where a command's cells run."""

from typing import TYPE_CHECKING

import typer

from ep_hw.cli.printing import say

if TYPE_CHECKING:   # these load torch
    from ep_hw.evaluation.cluster import Cluster
    from ep_hw.evaluation.execution import Run


def run_of(context: typer.Context, device: str, jobs: int, cluster: str | None) -> "Run":
    """What the options --device, --jobs and --cluster say.

    Raises:
        Refusal: see `ep_hw.evaluation.cluster.Cluster`.
    """
    from ep_hw.evaluation.execution import Run

    return Run(device=device, jobs=jobs, cluster=cluster_of(context, cluster))


def cluster_of(context: typer.Context, cluster: str | None) -> "Cluster | None":
    """The cluster that --cluster names, which is let go when the command ends."""
    from ep_hw.evaluation.cluster import Cluster

    return context.with_resource(Cluster(cluster, say)) if cluster else None

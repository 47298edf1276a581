"""Where a command's cells run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from ep_hw.cli.options import PROCESSORS, Device, Jobs, Workers
from ep_hw.cli.printing import say

if TYPE_CHECKING:   # these load torch
    from ep_hw.evaluation.cluster import Cluster
    from ep_hw.evaluation.execution import Run


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a command's cells run."""

    jobs: Jobs = PROCESSORS
    cluster: Workers = None
    device: Device = "cpu"

    def run(self, context: typer.Context) -> "Run":
        """What the options say.

        Raises:
            Refusal: see `ep_hw.evaluation.cluster.Cluster`.
        """
        from ep_hw.evaluation.execution import Run

        return Run(device=self.device, jobs=self.jobs, cluster=cluster_of(context, self.cluster))


def cluster_of(context: typer.Context, cluster: str | None) -> "Cluster | None":
    """The cluster that --cluster names, which is let go when the command ends."""
    from ep_hw.evaluation.cluster import Cluster

    return context.with_resource(Cluster(cluster, say)) if cluster else None

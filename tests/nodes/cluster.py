"""A Ray cluster of two raylets in this process's network, and a third on another host if there is one."""

from __future__ import annotations

import sys

import ray
from ray.cluster_utils import Cluster

from hosts import Host
from waiting import eventually

NODES = ("beside", "far")  # by the name of a resource that each has alone; the driver's node is "here"
_RAY = (sys.executable, "-m", "ray.scripts.scripts")


def start(far: Host | None) -> Cluster:
    """This process is its driver."""
    here = {} if far is None else {"node_ip_address": far.cables[0].here}
    made = Cluster(True, head_node_args={"num_cpus": 4, "resources": {"here": 100}, "include_dashboard": False, **here})
    made.add_node(num_cpus=4, resources={"beside": 100}, **here)
    ray.init(address=made.address, log_to_driver=False, configure_logging=False)
    if far is not None:
        joins = ("start", f"--address={made.address}", f"--node-ip-address={far.cables[0].there}", "--num-cpus=4")
        far.start(*_RAY, *joins, '--resources={"far": 100}', "--block", "--disable-usage-stats")
        eventually(lambda: "far" in ray.cluster_resources(), 60.0)
    return made

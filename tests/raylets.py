"""A Ray cluster of several nodes on this machine's loopback interface, as a process of its own.

`python raylets.py FOLDER [GPUS …]` starts a node with one core for each number, prints the cluster's address and the
process number of each raylet as JSON, and ends all of it when its input ends.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("RAY_TMPDIR", sys.argv[1])  # Ray keeps a file there that names the machine's one current cluster
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
os.environ |= {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}  # a lost node is soon seen

from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

if __name__ == "__main__":
    (Path(os.environ["RAY_TMPDIR"]) / "ray").mkdir(parents=True, exist_ok=True)  # Ray writes there, and makes no folder
    cluster = Cluster()
    folder = {"temp_dir": sys.argv[1]}
    nodes = []
    for gpus in map(int, sys.argv[2:]):
        nodes.append(cluster.add_node(num_gpus=gpus, include_dashboard=False, node_ip_address="127.0.0.1", **folder))
        folder = {}  # the others' is the first one's
    pids = [node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid for node in nodes]
    print(json.dumps([cluster.address, pids]), flush=True)
    sys.stdin.read()
    cluster.shutdown()

"""`python -m tests.faults.on_node NODE COMMAND …`: vlajepa as on that node of a cluster whose nodes share a machine.

Ray would choose the head. On machines of their own, a driver joins the node of its machine.
"""

from __future__ import annotations

import sys

from ray._private import services

from jobs.cli import main

if __name__ == "__main__":
    _, node, *words = sys.argv
    choose = services.get_node_to_connect_for_driver  # takes a name, but ray.init has none to give
    services.get_node_to_connect_for_driver = lambda client, **wishes: choose(client, **{**wishes, "node_name": node})
    main(words)

"""Ray Train's process group, over the network interface that the cluster itself uses.

gloo asks the host for the address of its own name, and many hosts answer 127.0.1.1 (Debian's
/etc/hosts): then workers on two nodes never meet. A node's Ray address is one that others reach.
"""

import os
from typing import Any

import psutil
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from ray.util import get_node_ip_address


def use_node_interface() -> None:
    """Sets GLOO_SOCKET_IFNAME to the interface of this node's Ray address, unless it is set."""
    address = get_node_ip_address()
    for name, found in psutil.net_if_addrs().items():
        if any(one.address == address for one in found):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(use_node_interface)
        super().on_start(worker_group, backend_config)


class NodeTorchConfig(TorchConfig):
    @property
    def backend_cls(self) -> type[_Backend]:
        return _Backend

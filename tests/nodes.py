"""Ray nodes on machines of their own: each in a network namespace, joined by a bridge.

Where namespaces cannot be made (no root), the nodes are Ray nodes all the same, each its own
raylet, on the addresses of the loopback interface.
"""

import random
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.cluster import BIN, ROOT, environment_of, free_port, kill_family


@dataclass
class Net:
    """Addresses for nodes, and what a command on a node has to begin with."""

    name: str
    subnet: str
    separate: bool
    """Whether nodes have network namespaces of their own."""
    hosts: int = 1

    def add(self) -> tuple[str, list[str]]:
        """The address of one node more, and the words before its commands."""
        self.hosts += 1
        address = f"{self.subnet}.{self.hosts}"
        if not self.separate:
            return address, []
        space, here, there = (f"{self.name}{kind}{self.hosts}" for kind in "nab")
        for words in (
            f"netns add {space}",
            f"link add {here} type veth peer name {there}",
            f"link set {here} master {self.name} up",
            f"link set {there} netns {space}",
            f"-n {space} addr add {address}/24 dev {there}",
            f"-n {space} link set {there} up",
            f"-n {space} link set lo up",
        ):
            ip(*words.split())
        return address, ["ip", "netns", "exec", space]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def net() -> Iterator[Net]:
    """A bridge of its own, gone afterwards with all that hangs on it.

    Its addresses are no other bridge's: of two with the same, one gets no answers, and a suite that
    is killed leaves its bridge behind.
    """
    name = f"d{uuid.uuid4().hex[:6]}"
    try:
        ip("link", "add", name, "type", "bridge")
    except (OSError, subprocess.CalledProcessError):
        yield Net(name="", subnet="127.0.0", separate=False)
        return
    taken = {at.address for some in psutil.net_if_addrs().values() for at in some}
    free = [f"10.213.{n}" for n in range(1, 255) if f"10.213.{n}.1" not in taken]
    made = Net(name=name, subnet=random.choice(free), separate=True)
    try:
        ip("addr", "add", f"{made.subnet}.1/24", "dev", made.name)
        ip("link", "set", made.name, "up")
        yield made
    finally:
        for host in range(2, made.hosts + 1):
            ip("netns", "del", f"{made.name}n{host}")
        ip("link", "del", made.name)


@dataclass
class Nodes:
    """A head without cores, and nodes with one core each."""

    net: Net
    folder: Path
    environment: dict[str, str]
    address: str = ""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *words: str, address: str, before: list[str] | None = None) -> None:
        """``ray start`` with these words, on the node of this address."""
        command = [*(before or []), str(BIN / "ray"), "start", "--block", *words,
                   f"--node-ip-address={address}", "--object-store-memory=100000000"]  # fmt: skip
        with open(self.folder / f"{address}.log", "wb") as log:
            self.running[address] = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
                env={**self.environment, "DRAW_CACHE": f"{self.folder}/cache-{address}"},
            )  # fmt: skip
        # One after the other: two that start at once in one session folder take each other's names.
        said = self.folder / f"{address}.log"
        while "Ray runtime started" not in said.read_text():
            assert self.running[address].poll() is None, said.read_text()[-2000:]
            time.sleep(0.1)

    def add(self) -> str:
        """One node more with one core; its address."""
        address, before = self.net.add()
        self.start(f"--address={self.address}", "--num-cpus=1", address=address, before=before)
        return address

    def kill(self, address: str) -> None:
        """SIGKILL for everything that runs on a node."""
        kill_family(self.running.pop(address))


@contextmanager
def started(count: int, store: str) -> Iterator[Nodes]:
    """A head and ``count`` nodes."""
    with ExitStack() as stack:
        joined = stack.enter_context(net())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="n", dir="/tmp"))
        head = f"{joined.subnet}.1"
        environment = {
            **environment_of(folder, store),
            # How soon the head gives up on a node that says nothing.
            "RAY_health_check_initial_delay_ms": "0",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "4",
        }
        nodes = Nodes(net=joined, folder=Path(folder), environment=environment)
        stack.callback(lambda: [nodes.kill(one) for one in list(nodes.running)])
        nodes.address = f"{head}:{free_port()}"
        nodes.start(
            "--head", "--num-cpus=0", f"--port={nodes.address.rpartition(':')[2]}",
            f"--dashboard-port={free_port()}", f"--temp-dir={folder}/ray", address=head,
        )  # fmt: skip
        for _ in range(count):
            nodes.add()
        yield nodes

"""What Swift must be told to be one small store: its configuration files and its rings."""

import os
import pwd
import re
import secrets
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from pipeline.errors import StorageError

HOST = "127.0.0.1"
BACKENDS = ("account", "container", "object")
SERVERS = {
    "account": "swift.account.server",
    "container": "swift.container.server",
    "object": "swift.obj.server",
    "proxy": "swift.proxy.server",
}
"""Kind of server → the module whose ``main`` it is."""

ACCESS_KEY = "draw:draw"  # account:user; the names stand in ``user_draw_draw`` below, too

CLUSTER = """\
[swift-hash]
swift_hash_path_prefix = {prefix}
swift_hash_path_suffix = {suffix}
[storage-policy:0]
name = default
default = yes
"""
COMMON = """\
[DEFAULT]
bind_ip = {host}
bind_port = {port}
user = {user}
workers = 0
swift_dir = {directory}
devices = {directory}/devices
recon_cache_path = {directory}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = WARNING
log_address = /dev/null
conn_timeout = 30
node_timeout = 60
client_timeout = 120
container_update_timeout = 60
"""
BACKEND = """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
log_requests = false
"""
OBJECT = """\
[pipeline:main]
pipeline = create-once object-server
[filter:create-once]
paste.filter_factory = infra.store_filters:create_once
[app:object-server]
use = egg:swift#object
log_requests = false
[object-updater]
"""
# With one backend of each kind, setting it aside after an error would stop the whole store: hence
# the error_suppression_limit.
PROXY = """\
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats s3api tempauth slo copy proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 30
node_timeout = 60
recoverable_node_timeout = 60
error_suppression_limit = 1000000
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
paste.filter_factory = infra.store_filters:cache
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
max_upload_part_num = 10000
[filter:tempauth]
use = egg:swift#tempauth
user_draw_draw = {secret} .admin
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
allow_async_delete = false
[filter:copy]
use = egg:swift#copy
"""
ENVIRONMENT = """\
export AWS_ENDPOINT_URL={endpoint}
export AWS_ACCESS_KEY_ID={access_key}
export AWS_SECRET_ACCESS_KEY={secret_key}
export AWS_DEFAULT_REGION=us-east-1
"""


def write_configuration(directory: Path, ports: Mapping[str, int], secret: str) -> None:
    """Writes what the servers read at their start; ``ports`` has one for each of SERVERS."""
    identity = directory / "swift.conf"
    if not identity.exists():  # it decides where on the disk an object lies: never change it
        write_private(
            identity, CLUSTER.format(prefix=secrets.token_hex(8), suffix=secrets.token_hex(8))
        )
    (directory / "devices" / "disk").mkdir(parents=True, exist_ok=True)
    bodies = {kind: BACKEND.format(kind=kind) for kind in BACKENDS}
    bodies |= {"object": OBJECT, "proxy": PROXY.format(secret=secret)}
    for kind, body in bodies.items():
        common = COMMON.format(host=HOST, port=ports[kind], user=user_name(), directory=directory)
        write_private(directory / f"{kind}.conf", common + body)
    for kind in BACKENDS:
        write_ring(directory / f"{kind}.ring.gz", ports[kind])


def known_secret(environment: Path) -> str | None:
    """The secret that an earlier start has made; its users keep it."""
    text = environment.read_text() if environment.exists() else ""
    found = re.search(r"^export AWS_SECRET_ACCESS_KEY=(\S+)$", text, re.MULTILINE)
    return found and found[1]


def free_ports(wanted: int) -> list[int]:
    """One port for each of SERVERS; the last is ``wanted``, or a free one for 0."""
    with ExitStack() as held:
        ports = []
        for port in (*(0 for _ in BACKENDS), wanted):
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as fault:
                raise StorageError(
                    f"{HOST}:{port}: {fault.strerror}; choose another --port"
                ) from None
            ports.append(probe.getsockname()[1])
        return ports


def write_ring(path: Path, port: int) -> None:
    """A ring says which server has which part of the data: here always the one on this port."""
    from swift.common.ring import RingBuilder

    device = {"ip": HOST, "port": port, "device": "disk"}
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    builder.add_dev(device | {"region": 1, "zone": 1, "weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(str(path))


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one step; nobody but its owner can read it."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def user_name() -> str:
    """Swift changes to the user that its configuration names: the present one."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise StorageError(
            f"user {os.getuid()} has no name in /etc/passwd, which Swift needs; run the store as a "
            "user that has one"
        ) from None

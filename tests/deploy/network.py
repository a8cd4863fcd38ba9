"""Network namespaces on one bridge: a balancer, three replicas, a client. Needs root and iproute2."""
import os
import pathlib
import shutil
import subprocess

BALANCER = "10.77.0.1"
REPLICAS = ["10.77.0.11", "10.77.0.12", "10.77.0.13"]
CLIENT = "10.77.0.100"
_HOSTS = [*REPLICAS, CLIENT]


def why_not():
    """Why this machine cannot have the namespaces, or None."""
    if os.geteuid() != 0:
        return "root is needed to make network namespaces"
    probe = f"sluice-{os.getpid()}-probe"
    try:
        subprocess.run(["ip", "netns", "add", probe], check=True, capture_output=True)
        subprocess.run(["ip", "netns", "delete", probe], check=True, capture_output=True)
    except FileNotFoundError:
        return "ip (iproute2) is not installed"
    except subprocess.CalledProcessError as error:
        return "network namespaces cannot be made: " + error.stderr.decode().strip()
    return None


class Network:
    """Namespaces that can reach each other and nothing else; the bridge is the balancer's."""

    def __init__(self):
        self._prefix = f"sluice-{os.getpid()}-"
        self._namespaces = []
        self._add(BALANCER)
        self._ip(BALANCER, "link", "add", "br0", "type", "bridge")
        self._ip(BALANCER, "link", "set", "br0", "up")
        self._ip(BALANCER, "address", "add", BALANCER + "/24", "dev", "br0")
        for address in _HOSTS:
            self._add(address)
            port = self._port(address)
            self._ip(BALANCER, "link", "add", port, "type", "veth", "peer", "name", "eth0",
                     "netns", self._name(address))
            self._ip(BALANCER, "link", "set", port, "master", "br0", "up")
            self._ip(address, "address", "add", address + "/24", "dev", "eth0")
            self._ip(address, "link", "set", "eth0", "up")

    def _name(self, address):
        return self._prefix + address.rsplit(".", 1)[1]

    def _port(self, address):
        return f"port{_HOSTS.index(address)}"

    def _add(self, address):
        subprocess.run(["ip", "netns", "add", self._name(address)], check=True)
        self._namespaces.append(self._name(address))
        self._ip(address, "link", "set", "lo", "up")

    def _ip(self, address, *arguments):
        subprocess.run(["ip", "-netns", self._name(address), *arguments], check=True)

    def command(self, address, *arguments):
        """The command line that runs `arguments` at `address`; it keeps its process id."""
        return ["ip", "netns", "exec", self._name(address), *map(str, arguments)]

    def run(self, address, *arguments):
        """Runs a command at `address`. Its output."""
        return subprocess.run(self.command(address, *arguments), check=True, stdout=subprocess.PIPE,
                              text=True).stdout

    def unplug(self, address):
        """Nothing reaches `address` or comes from it, and nobody is told."""
        self._ip(BALANCER, "link", "set", self._port(address), "down")

    def plug(self, address):
        self._ip(BALANCER, "link", "set", self._port(address), "up")

    def num_connections(self, address, peer, port=None):
        """Established TCP connections at `address` with `peer`, at the peer's port if given."""
        peer = f"{peer}:{port}" if port else peer
        return len(self.run(address, "ss", "-Htn", "state", "established", "dst", peer).splitlines())

    def set_name_server(self, address, name_server):
        """What runs at `address` from now on has a /etc/resolv.conf with it, and no other host names."""
        folder = pathlib.Path("/etc/netns") / self._name(address)  # where `ip netns exec` looks
        folder.mkdir(parents=True)
        (folder / "resolv.conf").write_text(f"nameserver {name_server}\n", encoding="utf-8")
        (folder / "hosts").write_text("127.0.0.1 localhost\n", encoding="utf-8")

    def close(self):
        for name in self._namespaces:
            subprocess.run(["ip", "netns", "delete", name], check=False)
            shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)

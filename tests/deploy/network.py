"""Network namespaces on one bridge: a balancer, three replicas, a client. Needs root and iproute2."""
import os
import subprocess

BALANCER = "10.77.0.1"
REPLICAS = ["10.77.0.11", "10.77.0.12", "10.77.0.13"]
CLIENT = "10.77.0.100"


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
        for number, address in enumerate([*REPLICAS, CLIENT]):
            self._add(address)
            port = f"port{number}"
            self._ip(BALANCER, "link", "add", port, "type", "veth", "peer", "name", "eth0",
                     "netns", self._name(address))
            self._ip(BALANCER, "link", "set", port, "master", "br0", "up")
            self._ip(address, "address", "add", address + "/24", "dev", "eth0")
            self._ip(address, "link", "set", "eth0", "up")

    def _name(self, address):
        return self._prefix + address.rsplit(".", 1)[1]

    def _add(self, address):
        subprocess.run(["ip", "netns", "add", self._name(address)], check=True)
        self._namespaces.append(self._name(address))
        self._ip(address, "link", "set", "lo", "up")

    def _ip(self, address, *arguments):
        subprocess.run(["ip", "-netns", self._name(address), *arguments], check=True)

    def command(self, address, *arguments):
        """The command line that runs `arguments` at `address`; it keeps its process id."""
        return ["ip", "netns", "exec", self._name(address), *map(str, arguments)]

    def close(self):
        for name in self._namespaces:
            subprocess.run(["ip", "netns", "delete", name], check=False)

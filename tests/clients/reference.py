"""What the same request gives through sluice.v1.Generation: the measure for other clients."""
import contextlib
import hashlib
import pathlib
import tempfile

from support import LLAMA, SMALL, json_lines, running_server

PROMPT = "Once upon a time"
# Temperatures and the like that FP32 holds exactly, since Triton's tensors have them so.
SAMPLING = {"max_tokens": 40, "temperature": 0.75, "top_p": 0.875, "top_k": 50, "seed": 3}
KEY = "the right key"


def llama(*arguments):
    return running_server("--model", LLAMA, *SMALL, *arguments)


@contextlib.contextmanager
def llama_with_keys():
    with tempfile.TemporaryDirectory() as folder:
        keys = pathlib.Path(folder) / "keys"
        keys.write_text(hashlib.sha256(KEY.encode()).hexdigest() + " alice\n", encoding="utf-8")
        with llama("--api-keys", keys) as server:
            yield server


def generate(server, **request):
    """One line of `sluice client --json`."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in request.items()]
    outcome = server.client(*flags, "--json")
    assert outcome.code == 0, outcome
    return json_lines(outcome.out)[0]

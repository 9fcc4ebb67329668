"""The process around a service: its end."""

import socket
import subprocess
import sys

import pytest

from edgecar.errors import SettingsError
from edgecar.serve import run

# A process of its own: were the signal not handled, it would end whoever runs the tests.
SIGNALLED = """
import signal, sys, threading
import hypercorn.asyncio
from edgecar.serve import run
from edgecar.serve.service import Service
from edgecar.serve.settings import Settings

number, begin = int(sys.argv[1]), hypercorn.asyncio.serve
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # who runs the tests may ignore it (nohup)
async def signalled(*arguments, **more):
    signal.raise_signal(number)
    await begin(*arguments, **more)
hypercorn.asyncio.serve = signalled

before = signal.getsignal(number)
service = Service(Settings.model_validate({"state": sys.argv[2]}))
run.serve(service, run.listening_socket("127.0.0.1", 0), lambda: None)
assert service.draining
assert not [each for each in threading.enumerate() if each.name.startswith("edgecar-")]
assert signal.getsignal(number) == before
print("ended")
"""


def test_an_address_that_cannot_be_had_is_said_in_a_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = rf"127.0.0.1:{port} cannot be listened at \(Address already in use\)"
        with pytest.raises(SettingsError, match=words):
            run.listening_socket("127.0.0.1", port)


@pytest.mark.parametrize("number", run.SIGNALS)
def test_a_signal_that_comes_before_the_server_listens_to_any_ends_it(tmp_path, number):
    command = [sys.executable, "-X", "faulthandler", "-c", SIGNALLED]
    arguments = [str(int(number)), str(tmp_path / "state.json")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr

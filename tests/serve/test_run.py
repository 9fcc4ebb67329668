"""The process around a service: its end."""

import signal
import threading

import pytest
import uvicorn

from edgecar.serve import run

main_thread = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals go to the main one"
)


@main_thread
@pytest.mark.parametrize("number", run.SIGNALS)
def test_a_signal_that_comes_before_the_server_listens_to_any_ends_it(
    make_service, monkeypatch, number
):
    before, begin = signal.getsignal(number), uvicorn.Server.run

    def signalled(server, *arguments, **more):
        signal.raise_signal(number)
        begin(server, *arguments, **more)

    monkeypatch.setattr(uvicorn.Server, "run", signalled)
    service = make_service()
    run.serve(service, run.listening_socket("127.0.0.1", 0), lambda: None)
    assert service.draining
    assert not [each for each in threading.enumerate() if each.name.startswith("edgecar-")]
    assert signal.getsignal(number) == before

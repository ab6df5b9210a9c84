"""Listening sockets of a replica, on systems that spread connections over sockets and on systems that do not."""

import socket

import pytest

from serving.process.replica import open_sockets


@pytest.mark.parametrize("spread", [True, False])
def test_workers_listen_on_one_port(spread: bool) -> None:
    sockets = open_sockets("127.0.0.1", 0, 3, spread=spread)
    assert len({each.getsockname() for each in sockets}) == 1
    assert len({each.fileno() for each in sockets}) == 3
    for each in sockets:
        each.close()


def test_shared_queue_serves_after_worker_closes() -> None:
    first, second = open_sockets("127.0.0.1", 0, 2, spread=False)
    first.close()
    second.settimeout(5)
    with socket.create_connection(second.getsockname(), timeout=5) as client:
        accepted, address = second.accept()
        assert address == client.getsockname()
    accepted.close()
    second.close()

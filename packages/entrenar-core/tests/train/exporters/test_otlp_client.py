"""A collector that is not there, does not answer, or answers something else than yes."""

import random
import shutil
import socket
import ssl
import subprocess
import time
from email.utils import formatdate

import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.train.exporters import protobuf
from entrenar_core.train.exporters.otlp_client import Client, NotSent
from entrenar_core.train.exporters.otlp_section import OtlpSection, OtlpSettings
from otlp_collector import Collector, listening

MESSAGE = b"a message"


def client(endpoint, *, timeout=5.0, patience=2.0, wait=None, **environment):
    address = OtlpSettings.of(
        OtlpSection(endpoint=endpoint, timeout=timeout), environment=environment
    ).traces
    return Client(address, wait=wait or sleep, patience=patience, backoff=0.01)


def sleep(seconds):
    time.sleep(seconds)
    return False


def answers(*statuses, **headers):
    """The answers of a collector, the last of them for ever."""
    left = list(statuses)
    return lambda handler: handler.reply(left.pop(0) if len(left) > 1 else left[0], **headers)


def test_a_message_arrives_as_it_was():
    with Collector() as collector:
        assert client(collector.endpoint).post(MESSAGE) == (0, "")
    assert collector.bodies == [("/v1/traces", MESSAGE)]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_collector_that_is_busy_is_asked_again(status):
    with Collector(answers(status, status, 200)) as collector:
        client(collector.endpoint).post(MESSAGE)
    assert collector.bodies == [("/v1/traces", MESSAGE)]
    assert len(collector.requests) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500, 501])
def test_any_other_answer_is_not_asked_for_again(status):
    with Collector(answers(status, 200)) as collector, pytest.raises(NotSent, match=str(status)):
        client(collector.endpoint).post(MESSAGE)
    assert len(collector.requests) == 1


def test_why_a_message_was_refused_is_said_without_control_characters():
    status = protobuf.integer(1, 3) + protobuf.delimited(2, "no\x1b[31m such tenant")
    with (
        Collector(lambda handler: handler.reply(400, status)) as collector,
        pytest.raises(NotSent) as raised,
    ):
        client(collector.endpoint).post(MESSAGE)
    assert str(raised.value).endswith(r"/v1/traces answered 400: no\x1b[31m such tenant")


def test_a_collector_is_left_alone_for_as_long_as_it_asks():
    waited = []
    with Collector(answers(503, 200, Retry_After="1")) as collector:
        client(collector.endpoint, wait=lambda seconds: waited.append(seconds)).post(MESSAGE)
    assert waited == [1.0]


def test_a_collector_may_name_the_moment_to_come_back():
    waited = []
    date = formatdate(time.time() + 20, usegmt=True)
    with Collector(answers(503, 200, Retry_After=date)) as collector:
        asked = client(collector.endpoint, patience=60, wait=lambda s: waited.append(s))
        asked.post(MESSAGE)
    assert waited == [pytest.approx(20, abs=3)]


def test_nobody_waits_for_a_collector_that_asks_for_an_hour():
    with (
        Collector(answers(429, Retry_After="3600")) as collector,
        pytest.raises(NotSent, match="429"),
    ):
        client(collector.endpoint, wait=lambda _: pytest.fail("waited")).post(MESSAGE)


def test_attempts_end_when_patience_does():
    started = time.monotonic()
    with Collector(answers(503)) as collector, pytest.raises(NotSent, match="503"):
        client(collector.endpoint, patience=0.2).post(MESSAGE)
    assert time.monotonic() - started < 2
    assert len(collector.requests) >= 3


def test_waits_get_longer():
    waited = []

    def wait(seconds):
        waited.append(seconds)
        return len(waited) == 5

    with Collector(answers(503)) as collector, pytest.raises(NotSent):
        client(collector.endpoint, wait=wait).post(MESSAGE)
    assert all(0.005 * 2**n <= seconds <= 0.01 * 2**n for n, seconds in enumerate(waited))


def test_an_end_while_waiting_is_one_more_attempt():
    with Collector(answers(503)) as collector, pytest.raises(NotSent):
        client(collector.endpoint, wait=lambda _: True).post(MESSAGE)
    assert len(collector.requests) == 2


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotSent, match=rf"http://127.0.0.1:{port}/v1/traces: Connection refused"):
        client(f"http://127.0.0.1:{port}", patience=0.05).post(MESSAGE)


def test_a_collector_that_accepts_and_says_nothing_is_waited_for_only_so_long():
    started = time.monotonic()
    with (
        listening(lambda connection: time.sleep(3)) as endpoint,
        pytest.raises(NotSent, match="timed out"),
    ):
        client(endpoint, timeout=0.2, patience=0).post(MESSAGE)
    assert time.monotonic() - started < 1.5


def test_bytes_that_trickle_do_not_make_an_attempt_longer():
    def trickle(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(40):
            time.sleep(0.05)
            connection.sendall(b"a")

    started = time.monotonic()
    with listening(trickle) as endpoint, pytest.raises(NotSent, match="timed out"):
        client(endpoint, timeout=0.3, patience=0).post(MESSAGE)
    assert time.monotonic() - started < 1.5


def test_an_answer_without_end_is_read_in_part():
    def flood(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"\x0a" * 65536)

    with listening(flood) as endpoint:
        assert client(endpoint).post(MESSAGE) == (0, "")


@pytest.mark.parametrize("answer", [b"220 ready for mail\r\n", b"HTTP/1.1 banana\r\n\r\n"])
def test_what_is_no_http_is_said(answer):
    with (
        listening(lambda connection: connection.sendall(answer)) as endpoint,
        pytest.raises(NotSent, match="answered no HTTP"),
    ):
        client(endpoint).post(MESSAGE)


def test_a_connection_that_is_closed_without_an_answer_is_tried_again():
    times = []
    with listening(times.append) as endpoint, pytest.raises(NotSent):
        client(endpoint, patience=0.2).post(MESSAGE)
    assert len(times) >= 2


def test_what_was_rejected_of_a_message_is_returned():
    answer = protobuf.message(1, protobuf.integer(1, 7), protobuf.delimited(2, "too old"))
    with Collector(lambda handler: handler.reply(200, answer)) as collector:
        assert client(collector.endpoint).post(MESSAGE) == (7, "too old")


def test_an_answer_that_is_no_message_says_nothing():
    with Collector(lambda handler: handler.reply(200, b"<html>")) as collector:
        assert client(collector.endpoint).post(MESSAGE) == (0, "")


def test_https_to_what_speaks_none_is_an_error_of_the_message():
    with Collector() as collector, pytest.raises(NotSent, match="SSL"):
        client(collector.endpoint.replace("http:", "https:"), patience=0).post(MESSAGE)


def test_a_certificate_that_nobody_vouches_for_is_refused_and_one_that_is_trusted_is_not(tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the command openssl, to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    collector = Collector()
    collector.socket = context.wrap_socket(collector.socket, server_side=True)
    with collector:
        endpoint = collector.endpoint.replace("http:", "https:")
        waits = {"wait": lambda _: pytest.fail("tried again")}
        with pytest.raises(NotSent, match="self-signed certificate"):
            client(endpoint, **waits).post(MESSAGE)
        trusting = client(endpoint, OTEL_EXPORTER_OTLP_CERTIFICATE=str(certificate), **waits)
        assert trusting.post(MESSAGE) == (0, "")


def test_certificates_that_are_not_there_are_an_error_at_once(tmp_path):
    with pytest.raises(ConfigError, match="no certificates to trust"):
        client("https://host", OTEL_EXPORTER_OTLP_CERTIFICATE=str(tmp_path / "none.pem"))


def test_drawing_the_waits_leaves_random_numbers_as_they_were():
    before = random.getstate()
    with Collector(answers(503, 200)) as collector:
        client(collector.endpoint).post(MESSAGE)
    assert random.getstate() == before

"""S3 on loopback, as it is when all is well and as it is when not."""

import logging
import threading
import urllib.request
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from moto.server import ThreadedMotoServer


@contextmanager
def serving_bucket(monkeypatch):
    """:return: a client of a server with the bucket ``acme``, which the environment names."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address(monkeypatch, f"http://{host}:{port}")
    client = boto3.client("s3")
    client.create_bucket(Bucket="acme")
    yield client
    client.close()
    with urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")):
        pass  # or the next server of this process has its buckets
    server.stop()


def address(monkeypatch, endpoint):
    import s3fs

    values = {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


@contextmanager
def answering(status, code, behind=None):
    """
    A server that gives the same answer to everything; status None: none at all.

    :param behind: the server that is asked for everything but the content of an object.
    """

    class Answer(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if behind and (self.command == "HEAD" or not self.path.partition("?")[0].endswith("a.jsonl")):
                asked = HTTPConnection(behind.removeprefix("http://"))
                asked.request(self.command, self.path, headers=dict(self.headers))
                answer = asked.getresponse()
                self.answer(answer.status, answer.headers, answer.read())
                asked.close()
            elif status is not None:
                self.answer(status, {}, f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode())

        def answer(self, status, headers, body):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()

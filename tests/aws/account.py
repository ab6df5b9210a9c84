"""An AWS account on loopback: moto behind a gate that knows which role asks, and refuses what that role may not.

A task gets its credentials as on ECS, from an address in AWS_CONTAINER_CREDENTIALS_FULL_URI; the access key names the
role, so every signed request tells who made it. Whatever signs counts, boto3 or not. Batch starts jobs as processes.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.aws.template import ACCOUNT, REGION, allows

OPERATOR = "operator"  # may do everything, and is not recorded
_SIGNED = re.compile(r"Credential=([^/]+)/[^/]+/([^/]+)/([^/]+)/")
_S3_WITH_BODY = {"uploads": "s3:PutObject", "uploadId": "s3:PutObject", "delete": "s3:DeleteObject"}
_BATCH = {"submitjob": "SubmitJob", "describejobs": "DescribeJobs", "terminatejob": "TerminateJob"}


class Account:
    """One call: caller, request and outcome.

    Attributes:
        calls: (role, action, resource) of every request that was let through.
        refused: the same of those that were not.
        regions: the regions that requests were signed for, by role.
        run_job: starts a job; given job definition and parameters, it gives a process.
    """

    def __init__(self, statements: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self._statements = statements
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._jobs: dict[str, Any] = {}
        self.calls: set[tuple[str, str, str]] = set()
        self.refused: set[tuple[str, str, str]] = set()
        self.regions: dict[str, set[str]] = {}
        self.names: dict[str, str] = {}  # of secrets, by what they are asked for: the template's words for them
        self.run_job: Callable[[str, Mapping[str, str]], Any] | None = None
        self.url = ""

    def environment(self, role: str) -> dict[str, str]:
        """Return the variables that ECS gives a task of a role, and the account's address."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/credentials/{role}"}

    def client(self, service: str, role: str = OPERATOR) -> Any:
        """A boto3 client that signs as a role."""
        import boto3

        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, aws_access_key_id=role, aws_secret_access_key="secret"
        )

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """WSGI."""
        path = str(environ["PATH_INFO"])
        if path.startswith("/credentials/"):
            return _json(start, "200 OK", _credentials(path.rpartition("/")[2]))
        signed = _SIGNED.search(environ.get("HTTP_AUTHORIZATION", ""))
        role, region, service = signed.groups() if signed else ("nobody", "", "")
        body = b""
        if service in {"batch", "secretsmanager"}:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        asked = self._asked(service, environ, body)
        allowed = role == OPERATOR or all(
            allows(list(self._statements.get(role, ())), action, resource) for action, resource in asked
        )
        with self._lock:
            self.regions.setdefault(role, set()).add(region)
            (self.calls if allowed else self.refused).update((role, *each) for each in asked)
        if not allowed:
            if service == "s3":
                start("403 Forbidden", [("Content-Type", "application/xml")])
                return [b"<Error><Code>AccessDenied</Code><Message>the role may not</Message></Error>"]
            return _json(start, "403 Forbidden", {"__type": "AccessDeniedException", "message": "the role may not"})
        if service == "batch":
            return self._batch(path.rpartition("/")[2], json.loads(body), start)
        if service == "secretsmanager":
            import io

            environ["wsgi.input"] = io.BytesIO(body)
        answer: Iterable[bytes] = self._moto(environ, start)
        return answer

    def _asked(self, service: str, environ: Mapping[str, Any], body: bytes) -> list[tuple[str, str]]:
        """IAM actions and resources of a request."""
        if service == "s3":
            return [_s3(environ)]
        if service == "secretsmanager":
            action = str(environ["HTTP_X_AMZ_TARGET"]).partition(".")[2]
            secret = str(json.loads(body).get("SecretId", ""))
            return [(f"secretsmanager:{action}", self.names.get(secret, secret))]
        call = _BATCH.get(str(environ["PATH_INFO"]).rpartition("/")[2], "unknown")
        start = f"arn:aws:batch:{REGION}:{ACCOUNT}"
        if call == "SubmitJob":
            wanted = json.loads(body)
            named = (f"{start}:job-definition/{wanted['jobDefinition']}", f"{start}:job-queue/{wanted['jobQueue']}")
            return [("batch:SubmitJob", each) for each in named]
        return [(f"batch:{call}", f"{start}:job/{json.loads(body)['jobId']}" if call == "TerminateJob" else "*")]

    def _batch(self, call: str, wanted: Mapping[str, Any], start: Any) -> Iterable[bytes]:
        if call == "submitjob":
            assert self.run_job is not None
            job = f"job-{len(self._jobs)}"
            self._jobs[job] = self.run_job(wanted["jobDefinition"], wanted["parameters"])
            return _json(start, "200 OK", {"jobId": job, "jobName": wanted["jobName"]})
        found = []
        for job in wanted["jobs"]:
            code = self._jobs[job].poll()
            state = "RUNNING" if code is None else "SUCCEEDED" if code == 0 else "FAILED"
            found.append({"jobId": job, "status": state, "container": {"exitCode": code}})
        return _json(start, "200 OK", {"jobs": found})


def _s3(environ: Mapping[str, Any]) -> tuple[str, str]:
    bucket, _, key = unquote(str(environ["PATH_INFO"])).lstrip("/").partition("/")
    method, query = environ["REQUEST_METHOD"], parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    if not key:
        if "delete" in query:
            return "s3:DeleteObject", f"arn:aws:s3:::{bucket}/*"
        action = {"GET": "s3:ListBucket", "HEAD": "s3:ListBucket", "PUT": "s3:CreateBucket"}.get(method, "s3:Unknown")
        return action, f"arn:aws:s3:::{bucket}"
    actions = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}
    if method == "POST":
        action = next((each for name, each in _S3_WITH_BODY.items() if name in query), "s3:Unknown")
    elif method == "DELETE" and "uploadId" in query:
        action = "s3:AbortMultipartUpload"
    else:
        action = actions.get(method, "s3:Unknown")
    return action, f"arn:aws:s3:::{bucket}/{key}"


def _credentials(role: str) -> dict[str, str]:
    return {"AccessKeyId": role, "SecretAccessKey": "secret", "Token": "token", "Expiration": "2099-01-01T00:00:00Z"}


def _json(start: Any, status: str, answer: Mapping[str, Any]) -> list[bytes]:
    body = json.dumps(answer).encode()
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


@contextmanager
def account(statements: Mapping[str, Sequence[dict[str, Any]]]) -> Iterator[Account]:
    """An account that answers on loopback until the block ends."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):  # type: ignore[misc]
        def log_request(self, *_: Any) -> None:
            """Every request of a minute would be a long log."""

    made = Account(statements)
    server = make_server("127.0.0.1", 0, made, threaded=True, request_handler=Quiet)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

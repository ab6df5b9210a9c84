"""Operator's approval through the deployments port."""

import pytest

from absa.errors import PermanentError
from flows.promotion.approval import OperatorApproval
from tests.stand_ins import FakeDeployments


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 5.0
        return self.now


def test_resumed_run_is_approved() -> None:
    deployments = FakeDeployments()
    approval = OperatorApproval(deployments, "run-1", timeout_s=60, clock=Clock())
    assert [approval.given(), approval.given()] == [False, False]
    deployments.resume("run-1")
    assert approval.given()
    deployments.pause("run-1", 1)
    assert approval.given(), "an approval is not taken back"


def test_withdrawn_request_resumes_the_run() -> None:
    deployments = FakeDeployments()
    approval = OperatorApproval(deployments, "run-1", timeout_s=60, clock=Clock())
    approval.withdraw()
    assert deployments.states == {}
    assert not approval.given()
    approval.withdraw()
    state = deployments.state("run-1")
    assert state is not None
    assert state.name == "Running"
    assert not approval.given(), "a new winner needs a new approval"


def test_request_without_answer_expires() -> None:
    approval = OperatorApproval(FakeDeployments(), "run-1", timeout_s=12, clock=Clock())
    assert [approval.given() for _ in range(3)] == [False] * 3
    with pytest.raises(PermanentError, match="no operator approved"):
        approval.given()

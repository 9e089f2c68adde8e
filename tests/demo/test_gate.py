"""The gate against a small model of it: whatever order calls come in, one tenant, growing epochs, one valid token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from demo.gate import Gate, Refused

KEY = "key"
TENANTS = st.sampled_from(["acme", "globex", "initech"])
EPOCHS = st.integers(min_value=-1, max_value=8)
TOKENS = st.sampled_from(["t1", "t2", "t3", "tökén"])
KEYS = st.sampled_from([KEY, KEY, KEY, "", "wrong", "schlüssel"])


class GateMachine(RuleBasedStateMachine):
    """The model is the history of what was accepted (who, which epoch, which token) and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(KEY)
        self.accepted: list[tuple[str, int, str]] = []
        self.closed = False

    def refused(self, call: object, *arguments: object) -> int | None:
        assert callable(call)
        try:
            call(*arguments)
        except Refused as refusal:
            return refusal.status
        return None

    @rule(key=KEYS, tenant=TENANTS, epoch=EPOCHS, token=TOKENS)
    def activate(self, key: str, tenant: str, epoch: int, token: str) -> None:
        status = self.refused(self.gate.activate, key, tenant, epoch, token)
        if key != KEY:
            assert status == 401
        elif {who for who, _, _ in self.accepted} - {tenant} or epoch <= max(
            (e for _, e, _ in self.accepted), default=0
        ):
            assert status == 409
        else:
            assert status is None
            self.accepted.append((tenant, epoch, token))
            self.closed = False

    @rule(key=KEYS, tenant=TENANTS, epoch=EPOCHS)
    def deactivate(self, key: str, tenant: str, epoch: int) -> None:
        status = self.refused(self.gate.deactivate, key, tenant, epoch)
        if key != KEY:
            assert status == 401
        elif self.accepted and self.accepted[-1][:2] == (tenant, epoch):
            assert status is None
            self.closed = True
        else:
            assert status == 409

    @rule(tenant=TENANTS, token=TOKENS)
    def request(self, tenant: str, token: str) -> None:
        status = self.refused(self.gate.admit, tenant, token)
        if self.accepted and tenant != self.accepted[-1][0]:
            assert status == 403
        elif self.accepted and not self.closed and token == self.accepted[-1][2]:
            assert status is None
            assert self.gate.admit(tenant, token) == self.accepted[-1][1]
        else:
            assert status == 401

    @invariant()
    def one_tenant_for_life(self) -> None:
        assert len({who for who, _, _ in self.accepted}) <= 1

    @invariant()
    def state_is_what_happened(self) -> None:
        assert self.gate.state == ("neutral" if not self.accepted else "closed" if self.closed else "open")
        assert self.gate.epoch == (self.accepted[-1][1] if self.accepted else 0)


GateMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestGate = GateMachine.TestCase


def test_a_gate_without_a_key_would_obey_everybody() -> None:
    with pytest.raises(ValueError, match="STOKER_ACTIVATION_KEY"):
        Gate("")


@pytest.mark.parametrize(("tenant", "token"), [("", "t"), ("acme", "")])
def test_an_empty_tenant_or_token_is_refused(tenant: str, token: str) -> None:
    with pytest.raises(Refused) as refusal:
        Gate(KEY).activate(KEY, tenant, 1, token)
    assert refusal.value.status == 400


def test_of_many_tenants_at_once_one_gets_the_worker() -> None:
    gate = Gate(KEY)

    def claim(number: int) -> bool:
        try:
            gate.activate(KEY, f"tenant-{number}", 1, "token")
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(claim, range(64))) == 1

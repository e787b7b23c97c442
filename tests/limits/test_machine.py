"""Any order of reserve, in one step or two, settle, renew, expiry, reset and repetition, over every
store, against a model.

The model keeps a list of admitted requests and their ends, and adds it up anew at each check; the
stores keep counters. They must agree in everything after every step.
"""

from __future__ import annotations

from datetime import datetime

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ollama_gateway.limits.calendar import moment
from ollama_gateway.limits.forgiven import Period
from ollama_gateway.limits.quota import (
    WINDOW_SECONDS,
    Grant,
    LimitName,
    LimitRefusal,
    Quota,
    Renewal,
    Reservation,
    ReservationRequest,
)
from tests.limits.counting_model import Entry, Model
from tests.limits.subject import KEY, Subject

QUOTA = Quota(5, 3, 2000, 4000)
SPANS = (4.3, 11.7, 31.1, 61.9, 3600.7, 86_400.9)
"""Seconds; no sum of a few of them comes near a lease, a window or an hour."""


class Machine(RuleBasedStateMachine):
    """The requests of one key."""

    requests: Bundle[str] = Bundle("requests")
    subject: Subject

    def __init__(self) -> None:
        super().__init__()
        self.subject.reset()
        self.model = Model()
        self.started = self.subject.now()
        self.count = 0

    @property
    def time(self) -> float:
        """Seconds since the start."""
        return (self.subject.now() - self.started).total_seconds()

    def period(self) -> tuple[int, int]:
        """Return day and month."""
        now: datetime = self.subject.now()
        found = moment(0, now)
        return found.day, found.month

    def room(self) -> int:
        """Return the tokens left in both budgets."""
        day, month = self.period()
        return min(
            QUOTA.tokens_per_day - self.model.value(day=day),
            QUOTA.tokens_per_month - self.model.value(month=month),
        )

    @rule(
        target=requests,
        prompt=st.sampled_from((1, 100, 700)),
        output=st.sampled_from((0, 100, 900)),
        min_output=st.sampled_from((0, 50, 256)),
    )
    def reserve(self, prompt: int, output: int, min_output: int) -> str:
        """A new request is admitted exactly if every limit has room for it."""
        self.count += 1
        return self.ask(f"r{self.count}", prompt, output, min(min_output, output))

    @rule(target=requests)
    def reserve_places(self) -> str:
        """The first of two steps is admitted if a single token would be, and takes none."""
        self.count += 1
        return self.ask(f"r{self.count}", 0, 0, 1)

    @rule(
        request_id=requests,
        prompt=st.sampled_from((1, 100, 700)),
        output=st.sampled_from((0, 100, 900)),
        min_output=st.sampled_from((0, 50, 256)),
    )
    def add_tokens(self, request_id: str, prompt: int, output: int, min_output: int) -> None:
        """The second step is held to the budgets alone, and done once; an expired one reopens."""
        self.model.pass_time(self.time)
        entry = self.model.entries.get(request_id)
        min_output = min(min_output, output)
        request = ReservationRequest(
            request_id, KEY, QUOTA, prompt, output, min_output, has_places=True
        )
        if entry is None or entry.state == "settled":
            assert self.subject.reserve(request) is None
            return
        if entry.state == "expired":
            entry.state, entry.at = "open", self.time
        room = self.room()
        outcome = self.subject.reserve(request)
        if entry.reservation.tokens:
            assert isinstance(outcome, Grant)
            assert outcome.reservation == entry.reservation
        elif prompt + min_output > room:
            assert isinstance(outcome, LimitRefusal)
        else:
            assert isinstance(outcome, Grant)
            assert outcome.output == min(output, room - prompt)
            tokens = prompt + outcome.output
            assert outcome.reservation == Reservation(request_id, KEY, tokens, *self.period())
            entry.reservation, entry.used, entry.at = outcome.reservation, 0, self.time

    @rule(request_id=requests)
    def reserve_again(self, request_id: str) -> None:
        """A repeated or late reservation changes nothing."""
        self.model.pass_time(self.time)
        entry = self.model.entries.get(request_id)
        if request_id not in self.model.tombstones and (not entry or entry.state == "settled"):
            return  # it would be a new one; no request is reserved again after its answer
        outcome = self.subject.reserve(ReservationRequest(request_id, KEY, QUOTA, 1, 1, 1))
        if entry is not None and entry.state == "open":
            assert isinstance(outcome, Grant)
            assert outcome.reservation == entry.reservation
        else:
            assert outcome is None

    @rule(prompt=st.integers(1, 500))
    def settle_before_reserve(self, prompt: int) -> None:
        """A settlement that overtakes its reservation refuses it."""
        self.count += 1
        request_id = f"r{self.count}"
        self.settle_at(request_id, 7)
        assert (
            self.subject.reserve(ReservationRequest(request_id, KEY, QUOTA, prompt, 9, 1)) is None
        )

    @rule(request_id=requests, used=st.sampled_from((0, 50, 900, 2500)))
    def settle(self, request_id: str, used: int) -> None:
        """The real figure replaces the reservation, once."""
        self.settle_at(request_id, used)

    @rule(request_id=consumes(requests), used=st.sampled_from((0, 50, 900, 2500)))
    def settle_for_good(self, request_id: str, used: int) -> None:
        """A repeated settlement changes nothing."""
        self.settle_at(request_id, used)
        self.settle_at(request_id, used + 1)

    @rule(request_id=requests, used=st.sampled_from((0, 50, 400)))
    def renew(self, request_id: str, used: int) -> None:
        """A renewal opens an expired reservation; the owner of a settled one never renews it."""
        self.model.pass_time(self.time)
        entry = self.model.entries.get(request_id)
        if entry is None or entry.state == "settled":
            return
        self.subject.renew(Renewal(entry.reservation, used))
        entry.state, entry.used, entry.at = "open", used, self.time

    @rule(request_id=requests)
    def renew_from_before(self, request_id: str) -> None:
        """A renewal that was composed before the tokens were added takes none away."""
        self.model.pass_time(self.time)
        entry = self.model.entries.get(request_id)
        if entry is None or entry.state == "settled":
            return
        self.subject.renew(Renewal(attrs.evolve(entry.reservation, tokens=0), 0))
        entry.state, entry.used, entry.at = "open", 0, self.time

    @rule(names=st.sets(st.sampled_from(("rate", "day", "month"))))
    def forgive(self, names: set[LimitName]) -> None:
        """A reset takes off what ended requests used, and the store says how much that is."""
        self.model.pass_time(self.time)
        day, month = self.period()
        totals = self.subject.forgive(KEY, *names)
        if "rate" in names:
            self.model.admissions.clear()
        periods: list[Period] = [("day", day), ("month", month)]
        for period in periods:
            if period[0] in names:
                self.model.forgive(period)
            assert totals[period] == self.model.forgiven.get(period, 0)

    @rule(span=st.sampled_from(SPANS))
    def sleep(self, span: float) -> None:
        """Time passes."""
        self.subject.sleep(span)

    @invariant()
    def agrees(self) -> None:
        """Nothing is negative, nothing leaks, and the store agrees with the model's sums."""
        self.model.pass_time(self.time)
        day, month = self.period()
        usage = self.subject.usage(KEY)
        admissions = [at for at in self.model.admissions if self.time < at + WINDOW_SECONDS]

        assert usage.admissions == len(admissions)
        assert usage.open == len(self.model.open())
        assert usage.day == self.model.value(day=day) >= 0
        assert usage.month == self.model.value(month=month) >= 0

    def ask(self, request_id: str, prompt: int, output: int, min_output: int) -> str:
        """Reserve, and check the answer against the model."""
        self.model.pass_time(self.time)
        day, month = self.period()
        admissions = [at for at in self.model.admissions if self.time < at + WINDOW_SECONDS]
        room = self.room()
        fits = (
            len(admissions) < QUOTA.requests_per_minute
            and len(self.model.open()) < QUOTA.concurrent_requests
            and prompt + min_output <= room
        )
        outcome = self.subject.reserve(
            ReservationRequest(request_id, KEY, QUOTA, prompt, output, min_output)
        )
        assert isinstance(outcome, Grant) is fits
        if isinstance(outcome, Grant):
            assert outcome.output == min(output, room - prompt)
            assert outcome.reservation == Reservation(
                request_id, KEY, prompt + outcome.output, day, month
            )
            self.model.entries[request_id] = Entry(outcome.reservation, at=self.time)
            self.model.admissions.append(self.time)
        return request_id

    def settle_at(self, request_id: str, used: int) -> None:
        """Settle in both."""
        self.model.pass_time(self.time)
        entry = self.model.entries.get(request_id)
        reservation = entry.reservation if entry else Reservation(request_id, KEY, 0, 0, 0)
        self.subject.settle(reservation, used)
        if entry is not None and entry.state in {"open", "expired"}:
            entry.state, entry.used = "settled", used
        elif entry is None:
            self.model.tombstones.setdefault(request_id, self.time)


def test_the_stores_agree_with_the_model_whatever_happens(subject: Subject) -> None:
    """No figure is negative or above its limit, and nothing leaks, in any order, in every store."""
    Machine.subject = subject
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

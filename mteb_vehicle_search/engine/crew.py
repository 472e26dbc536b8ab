"""Many workers in processes of their own, which come, get units, are lost and are replaced; of any carrier between."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from mteb_vehicle_search.engine import Listener
from mteb_vehicle_search.engine.seat import Answer
from mteb_vehicle_search.engine.units import Units, too_many
from mteb_vehicle_search.errors import EngineError

# Units that a worker has: one that it does, and one at hand. More would fill the memory between with results.
AHEAD = 2
# How often is looked after progress, room and time limits.
TICK_S = 1.0
# Workers that are lost at their start so soon after each other count once: a machine takes all its workers along.
ROUND_S = 5.0


class LostError(Exception):
    """A process, its machine or its answer is lost; says why, and whether the machine is, or may be."""

    def __init__(self, cause: str, *, with_machine: bool) -> None:
        super().__init__(cause)
        self.with_machine = with_machine


class Carrier(Protocol):
    """What starts processes with a `Seat` somewhere, and carries calls to them and answers back.

    Attributes:
        needs: What a worker takes of a machine, for people.
    """

    needs: str

    def room(self) -> int:
        """Return how many workers the machines that are there now could hold, all others away."""
        ...

    def start(self) -> Any:
        """Return a new seat, which waits until a machine has room for it; never waits itself."""
        ...

    def call(self, seat: Any, method: str, *arguments: Any) -> Any:
        """Call a method of the seat; returns the call, hashable, before it is answered."""
        ...

    def first(self, calls: Sequence[Any], timeout_s: float) -> Any | None:
        """Return the first of the calls that is answered, or whose seat is lost; None if there is none in time."""
        ...

    def answer(self, call: Any) -> Any:
        """Return what a call returned, which is forgotten then.

        Raises:
            LostError: It never will.
            EngineError: The seat itself failed.
        """
        ...

    def end(self, seat: Any) -> None:
        """End the process at once, whatever it does; also one that has ended."""
        ...


class Limits(NamedTuple):
    """How long to wait for a worker that does not get on, and for a machine with room for one."""

    unit_timeout_s: float
    node_timeout_s: float


@dataclass(eq=False)
class Member:
    """A worker as its crew knows it.

    Attributes:
        where: Machine and process; empty until it is on one.
        identity: None until the worker is made.
        units: Numbers of those that it has.
        since: When it last got on.
        answered: How many units it has answered.
        shown: How much progress of the next was told.
    """

    seat: Any
    since: float
    node: str = ""
    where: str = ""
    identity: dict[str, str] | None = None
    units: list[int] = field(default_factory=list)
    answered: int = 0
    shown: int = 0
    is_asked: bool = False


class Crew:
    """The workers of some units, from the first to the last result.

    Args:
        carrier: Starts them.
        worker: What `Seat.make` is called with.
        members: Those that are there already, idle; at the end, those that are then.
        identity, listener: As of `Engine.map`.
    """

    def __init__(
        self,
        carrier: Carrier,
        worker: tuple[Any, ...],
        units: Units,
        members: list[Member],
        *,
        identity: Mapping[str, str],
        listener: Listener,
        limits: Limits,
    ) -> None:
        self.members = members
        self._carrier, self._worker, self._units = carrier, worker, units
        self._identity, self._is_whole = dict(identity), False
        self._listener, self._limits = listener, limits
        self._calls: dict[Any, tuple[Member, Callable[[Member, Any], tuple[int, Any] | None]]] = {}
        self._room, self._failed_starts = 0, list[bool]()
        self._next_look, self._staffed, self._round_ends = 0.0, time.monotonic(), 0.0

    def results(self) -> Generator[tuple[int, Any]]:
        """Yield (number of the unit, result) in any order; raises as `Engine.map`."""
        try:
            for member in self.members:
                self._require_alike(member)
            self._tell_workers()
            while self._units.left():
                self._look()
                self._hand_out()
                self._start()
                call = self._carrier.first([*self._calls], TICK_S)
                if call is not None and (found := self._hear(call)) is not None:
                    yield found
        finally:
            for member in [*self.members]:
                if member.identity is None or member.units:
                    self._dismiss(member)

    def _look(self) -> None:
        """Now and then see how much room there is, who does not get on, and who made progress."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look, self._room = now + TICK_S, self._carrier.room()
        if any(member.where for member in self.members):
            self._staffed = now
        elif now - self._staffed > self._limits.node_timeout_s:
            raise EngineError(
                f"For {self._limits.node_timeout_s:,.0f} s no machine has had room for a worker, which takes "
                f"{self._carrier.needs}.",
                "Start one, or wait longer: VEHICLE_SEARCH_NODE_TIMEOUT_S. What is finished is kept.",
            )
        for member in [*self.members]:
            if member.where and (member.units or member.identity is None):
                self._look_after(member, now)

    def _look_after(self, member: Member, now: float) -> None:
        if now - member.since > self._limits.unit_timeout_s:
            # Whoever draws the results may have been long away, and an answer be there.
            if self._carrier.first([call for call, (whose, _) in self._calls.items() if whose is member], 0) is None:
                why = f"it did not get on for {self._limits.unit_timeout_s:,.0f} s (VEHICLE_SEARCH_UNIT_TIMEOUT_S)"
                self._lose(member, LostError(why, with_machine=False))
        elif member.units and not member.is_asked:
            member.is_asked = True
            self._call(member, self._progressed, "progress")

    def _start(self) -> None:
        """Start as many as there is room for, and one: it waits for a machine that comes. Each has a unit to do."""
        starting = self._starting()
        while len(self.members) <= self._room and self._units.waiting(starting + 1):
            member = Member(self._carrier.start(), time.monotonic())
            self.members.append(member)
            self._call(member, self._placed, "where")
            starting += 1

    def _starting(self) -> int:
        return sum(member.identity is None for member in self.members)

    def _hand_out(self) -> None:
        """Give everybody a unit before anybody gets one ahead."""
        starting = self._starting()
        for count in range(AHEAD):
            for member in self.members:
                if member.identity is None or len(member.units) != count:
                    continue
                if (taken := self._units.take(member.units, starting)) is not None:
                    if not member.units:
                        member.since = time.monotonic()
                    member.units.append(taken[0])
                    self._call(member, partial(self._done, taken[0]), "do", taken[1])

    def _call(self, member: Member, heard: Callable[[Member, Any], Any], method: str, *arguments: Any) -> None:
        self._calls[self._carrier.call(member.seat, method, *arguments)] = member, heard

    def _hear(self, call: Any) -> tuple[int, Any] | None:
        member, heard = self._calls.pop(call)
        try:
            answer = self._carrier.answer(call)
        except LostError as error:
            self._lose(member, error)
            return None
        return heard(member, answer)

    def _placed(self, member: Member, answer: tuple[str, str]) -> None:
        member.node, member.where = answer
        member.since = time.monotonic()
        self._call(member, self._made, "make", *self._worker)

    def _made(self, member: Member, answer: bytes) -> None:
        member.identity = self._opened(member, answer).result
        self._require_alike(member)
        self._failed_starts = []
        self._tell_workers()

    def _done(self, number: int, member: Member, answer: bytes) -> tuple[int, Any]:
        done = self._opened(member, answer)
        self._units.done(number)
        member.units.remove(number)
        self._listener.progress(done.progress - member.shown)
        member.since, member.shown, member.answered = time.monotonic(), 0, member.answered + 1
        return number, done.result

    def _progressed(self, member: Member, answer: tuple[int, int]) -> None:
        member.is_asked = False
        answered, count = answer
        # What was counted of a unit whose answer was heard meanwhile, or is yet to be, says nothing.
        if answered == member.answered and count > member.shown:
            self._listener.progress(count - member.shown)
            member.since, member.shown = time.monotonic(), count

    @staticmethod
    def _opened(member: Member, answer: bytes) -> Answer:
        opened: Answer = pickle.loads(answer)  # noqa: S301 - of a worker of this very job
        if opened.error is not None:
            opened.error.add_note(f"A worker {member.where} raised it:\n{opened.trace}")
            raise opened.error
        return opened

    def _require_alike(self, member: Member) -> None:
        """Refuse a worker that says of itself what it should not."""
        its = member.identity or {}
        if not self._is_whole:
            self._identity, self._is_whole = {**its, **self._identity}, True
        differing = [
            f"{name} is {its.get(name, 'nothing')} there, and {self._identity.get(name, 'nothing')} elsewhere"
            for name in sorted({*its, *self._identity})
            if its.get(name) != self._identity.get(name)
        ]
        if differing:
            raise EngineError(
                f"The worker {member.where} is refused: {'; '.join(differing)}.",
                "Have the same packages, code and weights on every machine, and machines of one kind.",
            )

    def _lose(self, member: Member, cause: LostError) -> None:
        """End a worker that is lost, and give its units back."""
        self._dismiss(member)
        where = member.where or "that was to start"
        if member.shown:
            self._listener.progress(-member.shown)
        count = len(member.units)
        rest = f" {count} unit{'s go' if count > 1 else ' goes'} to others." if count else ""
        self._listener.lost(f"A worker {where} was lost: {cause}.{rest}")
        self._tell_workers()
        self._units.lost(member.units, where, str(cause), with_machine=cause.with_machine)
        if member.identity is None:
            self._count_failed_start(cause)

    def _count_failed_start(self, cause: LostError) -> None:
        now = time.monotonic()
        if now < self._round_ends:
            return
        self._round_ends = now + ROUND_S
        self._failed_starts.append(cause.with_machine)
        if too_many(self._failed_starts):
            raise EngineError(
                f"{len(self._failed_starts)} times in a row workers were lost at their start, none was made: {cause}.",
                "If they need more memory, have fewer on a machine: VEHICLE_SEARCH_WORKER_CPUS.",
            )

    def _dismiss(self, member: Member) -> None:
        self.members.remove(member)
        self._calls = {call: heard for call, heard in self._calls.items() if heard[0] is not member}
        self._carrier.end(member.seat)

    def _tell_workers(self) -> None:
        made = [member for member in self.members if member.identity is not None]
        self._listener.workers(len(made), len({member.node for member in made}))

"""Collects what the cross checks find, and drops what rests on a value that is itself at fault."""

from collections.abc import Callable
from dataclasses import dataclass, field

from config.document import Place, written
from config.draft import Draft
from config.faults import Fault, printable, shown
from config.keys import find_key


@dataclass
class Notes:
    """Faults and warnings of the cross checks of one configuration."""

    draft: Draft
    where: Callable[[Place], str]
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)

    def fault(self, place: Place, value: object, problem: str, remedy: str, *rests_on: Place) -> None:
        if self._stand(place, *rests_on):
            self.faults.append(self._made(place, value, problem, remedy))

    def warning(self, place: Place, value: object, problem: str, remedy: str, *rests_on: Place) -> None:
        if self._stand(place, *rests_on):
            self.warnings.append(self._made(place, value, problem, remedy))

    def _stand(self, *places: Place) -> bool:
        return all(self.draft.stands(place) for place in places)

    def _made(self, place: Place, value: object, problem: str, remedy: str) -> Fault:
        name = written(place)
        key = find_key(place)
        text = "" if value is None else shown(value, key=name, secret=key is not None and key.secret)
        return Fault(name, text, printable(problem), printable(remedy), self.where(place))

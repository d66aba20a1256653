"""What an audit found, and when it fails."""

from dataclasses import asdict, dataclass
from typing import Any

from models.errors import ModelsError


class AuditFailed(ModelsError):
    """Something other than the edit tells edited images from genuine ones; a network would learn that."""


@dataclass(frozen=True)
class Audit:
    """How well a classifier that sees one shortcut alone does: AUC with its 95 % interval by patient.

    `cases` is what it rests on; the audit fails above `bound`. `remedy` says where to look then.
    """

    name: str
    auc: float
    low: float
    high: float
    bound: float
    cases: int
    about: str
    remedy: str

    @property
    def passed(self) -> bool:
        return self.cases > 0 and self.auc <= self.bound

    def figures(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}

    def sentence(self) -> str:
        if not self.cases:
            return f"{self.name}: nothing to look at"
        return (
            f"{self.name}: AUC {self.auc:.3f} ({self.low:.3f} to {self.high:.3f}), at most {self.bound:g} allowed, "
            f"on {self.cases:,} cases"
        )

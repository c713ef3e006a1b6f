"""How a document that breaks the contract is refused: every fault at once, each by its field."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One fault of one document: the `field` (empty: the document as a whole) and what is wrong with it."""

    field: str
    complaint: str

    def __str__(self) -> str:
        return f"{self.field}: {self.complaint}" if self.field else self.complaint


class ContractError(ValueError):
    """A document does not say what the contract demands; `problems` holds every fault found, never a value."""

    def __init__(self, document: str, problems: tuple[Problem, ...]) -> None:
        self.document = document
        self.problems = problems
        super().__init__(f"{document} is not usable: " + "; ".join(str(problem) for problem in problems))

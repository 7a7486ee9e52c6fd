"""Certificates: why nothing is faster than a bound, each with its check by comparisons and sums, and as JSON."""

from typing import Any, ClassVar, Protocol, Self

from lola.files.formats import FormatError, table
from lola.problem import Problem
from lola.proofs.hall import HallProof
from lola.proofs.multipliers import MultiplierProof
from lola.proofs.potentials import PotentialProof
from lola.proofs.prices import PriceProof
from lola.solvers.checks import shown


class Proof(Protocol):
    """A kind of certificate; `KINDS` lists them by the name they have in files."""

    kind: ClassVar[str]

    def check(self, problem: Problem, bound: float) -> None:
        """Raise `VerificationError` unless this proves that no schedule of the problem is faster than the bound."""

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""

    @classmethod
    def from_json(cls, where: str, data: dict[str, Any], problem: Problem) -> Self:
        """Build a certificate from a JSON object, or raise `FormatError`; whether it proves anything is not asked."""


# By the name that a kind of certificate has in files.
KINDS: dict[str, type[Proof]] = {cls.kind: cls for cls in (HallProof, PriceProof, PotentialProof, MultiplierProof)}


def proof_to_json(proof: Proof | None) -> dict[str, Any] | None:
    """Return what `proof_from_json` reads."""
    return None if proof is None else {"kind": proof.kind, **proof.to_json()}


def proof_from_json(where: str, value: object, problem: Problem) -> Proof | None:
    """Build a certificate of any kind from a JSON object, or raise `FormatError`; null is none."""
    if value is None:
        return None
    data = table(where, value)
    kind = data.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise FormatError(f"{where}, kind: must be one of {', '.join(KINDS)}, got {shown(kind)}")
    return KINDS[kind].from_json(where, data, problem)

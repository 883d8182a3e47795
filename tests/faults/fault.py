"""What the benchmarks of faults report."""

from dataclasses import dataclass


@dataclass
class Fault:
    """A fault, how often it was tried and survived, what was lost, and what the user was told."""

    fault: str
    tried: int
    survived: int
    lost: int  # finished epochs or records lost, bad data taken as good, or partial output left
    message: str  # one typical message

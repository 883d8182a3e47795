"""The result of injecting a fault."""

from dataclasses import dataclass


@dataclass
class Fault:
    """A fault: how often it was tried and survived, the lost results, and the program's message."""

    fault: str
    tried: int
    survived: int
    lost: int  # lost epochs or records, bad data accepted, or partial output
    message: str  # one typical message

"""Every mistake a user can make ends here: one sentence that names the value, the expectation and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class SightlineError(Exception):
    """The work failed (exit code 1): an unreadable file, a mask of another size, a disk that is full."""

    exit_code = 1


class UsageError(SightlineError, ValueError):
    """The call was wrong (exit code 2): an unknown name, option or format, or an extra that is not installed."""

    exit_code = 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'unet'?"` for the closest of the `known` words, or an empty string."""
    names = {k.lower(): k for k in known}
    close = get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f" Did you mean '{names[close[0]]}'?" if close else ""


def missing_extra(module: str, extra: str, purpose: str) -> UsageError:
    """The error for an optional package that is not there; nothing is ever installed behind the user's back."""
    return UsageError(f"{purpose} needs the package '{module}': pip install 'sightline[{extra}]'")

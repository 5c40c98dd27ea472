"""How a command that raised ends: a line that says what to do, an exit code, and a trace where it is of use.

The surprising rule: a message is fit for a user only where a ``raise`` in our own code made it. The same
ValueError out of numpy is a bug of ours, and is told as one. Libraries are known by the names of their
exceptions, so that none is imported to end a command. Whoever raised it, no line and no trace that is kept
holds a credential.
"""

from __future__ import annotations

import dis
import os
import re
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.redaction import masked_here
from infra.storage import cache_folder
from infra.telemetry import say

FAILED, MISTAKE, REFUSED = 1, 2, 3
TRACE = "PARDALIS_TRACE"
"""Set to anything, every error prints its trace."""
ROOT = Path(__file__).parents[1]
PACKAGES = ("infra", "tokenizer_service", "retrieval", "pipeline", "trainer")
ADDRESSES = ("PARDALIS_CORPUS", "AWS_ENDPOINT_URL", "RAY_ADDRESS")
"""Variables that stand for what the command line leaves out."""
CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile, and AWS_ENDPOINT_URL if not AWS"
ANSWERS = "see that the address is right and that the server answers"
CONNECTIONS = {
    "botocore.exceptions.NoCredentialsError": CREDENTIALS,
    "botocore.exceptions.ClientError": f"see that the bucket exists and lets you in, or {CREDENTIALS}",
    "botocore.exceptions.BotoCoreError": ANSWERS,
    "ray.exceptions.AuthenticationError": "name the cluster's token with RAY_AUTH_TOKEN_PATH",
    "requests.exceptions.RequestException": ANSWERS,
    "urllib.error.URLError": ANSWERS,
    "builtins.ConnectionError": ANSWERS,
    "builtins.TimeoutError": ANSWERS,
}
"""What to do when a library could not use a server, by the name of its exception."""
RAY = "ray.exceptions.RayTaskError"
"""Stands for an error on a worker, which it holds as ``cause``; its text is the worker's trace."""
DAMAGED = "SafetensorError"
"""Its module was renamed between releases."""
FRAME = re.compile(r'File "([^"]+)", line (\d+), in .+\n\s+(.+)')


class GateRefused(RuntimeError):
    """The work was done and a gate said no: a metric is under its target, or a leak was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    code: int
    text: str
    foreseen: bool = True
    """A trace is kept of what nobody foresaw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The line that an error comes from."""

    file: str
    line: int
    raised: bool
    """By a ``raise`` statement; else by something that the line called and that leaves no frame."""

    @property
    def ours(self) -> str | None:
        """The file's place in our packages, wherever a worker keeps them; ``None`` outside."""
        parts = Path(self.file).parts
        tails = (Path(*parts[place:]) for place, part in enumerate(parts) if part in PACKAGES)
        return next((tail.as_posix() for tail in tails if (ROOT / tail).is_file()), None)

    def __str__(self) -> str:
        return f"{self.ours or self.file}:{self.line}"


def end(error: Exception, tokens: Sequence[str]) -> int:
    """Tell who typed the command line what went wrong; the exit code."""
    found = ending(error, tokens)
    say(f"pardalis: {found.text}")
    if os.environ.get(TRACE):
        say("".join(traceback.format_exception(error)))
    elif not found.foreseen:
        keep_trace(error)
    return found.code


def ending(error: Exception, tokens: Sequence[str]) -> Ending:
    found, kinds = origin(error), names(error)
    if isinstance(error, GateRefused):
        return Ending(code=REFUSED, text=message(error))
    if found.ours and found.raised and not isinstance(error, AssertionError):
        return Ending(code=code_of(error), text=message(error))
    hint = next((hint for name, hint in CONNECTIONS.items() if name in kinds), None)
    if hint is None and isinstance(error, OSError) and "AWS Error" in str(error):
        hint = CREDENTIALS  # Arrow tells every fault of S3 as an OSError
    if hint is not None:
        place = " at ".join(addresses(tokens)) or "a server"
        return Ending(code=FAILED, text=f"{place} cannot be used: {one_line(error)}; {hint}")
    if type(error).__name__ == DAMAGED:
        return of_weights(error, tokens)
    if isinstance(error, OSError) and error.strerror:
        return of_file(error, tokens)
    text = f"a bug: {type(error).__name__} at {found}: {one_line(error)}"
    return Ending(code=FAILED, text=text, foreseen=False)


def code_of(error: Exception) -> int:
    """Of an error that our own code raised: ValueError is how it says that an input is wrong."""
    return MISTAKE if isinstance(error, ValueError | FileNotFoundError) else FAILED


def of_weights(error: Exception, tokens: Sequence[str]) -> Ending:
    place = " or ".join(token for token in values(tokens) if Path(token).exists())
    text = f"a weights file below {place or 'the corpus'} is damaged: {one_line(error)}; remove or restore it"
    return Ending(code=MISTAKE, text=text)


def of_file(error: OSError, tokens: Sequence[str]) -> Ending:
    """What the system would not do. It is the user's mistake if the command line names the file."""
    if error.filename is None:
        text = f"{error.strerror}, at {origin(error)}; free what is short and run again"
        return Ending(code=FAILED, text=text, foreseen=False)
    file = Path(os.fsdecode(error.filename)).absolute()
    named = any(Path(token).expanduser().absolute() in (file, *file.parents) for token in values(tokens))
    text = f"{error.filename}: {error.strerror}; give a path that exists and that you may use"
    return Ending(code=MISTAKE if named else FAILED, text=text, foreseen=named)


def origin(error: Exception) -> Origin:
    if RAY in names(error):
        file, line, source = (FRAME.findall(str(error)) or [("a worker", "0", "")])[-1]
        return Origin(file=file, line=int(line), raised=source.startswith("raise "))
    trace = error.__traceback__
    if trace is None:
        return Origin(file="nowhere", line=0, raised=False)
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    raised = code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return Origin(file=code.co_filename, line=trace.tb_lineno, raised=raised)


def names(error: Exception) -> list[str]:
    """The error's classes, such as ``builtins.OSError``."""
    return [f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__]


def message(error: Exception) -> str:
    return str(getattr(error, "cause", error)) if RAY in names(error) else str(error)


def one_line(error: Exception) -> str:
    # Masked before it is cut: half an address may not look like one.
    return masked_here(" ".join(message(error).split()))[:400].rstrip(".")


def values(tokens: Sequence[str]) -> Iterator[str]:
    """What the command line and the environment name: words, and what stands after ``--option=``."""
    for token in tokens:
        yield token.partition("=")[2] if token.startswith("--") else token
    yield from (os.environ[name] for name in ADDRESSES if name in os.environ)


def addresses(tokens: Sequence[str]) -> list[str]:
    return [value for value in values(tokens) if "://" in value]


def keep_trace(error: Exception) -> None:
    """In the cache folder; on the terminal where that cannot be written."""
    trace = masked_here("".join(traceback.format_exception(error)))
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = cache_folder() / "traces" / f"{stamp}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(trace)
    except OSError:
        say(trace)
    else:
        say(f"  its trace is in {path}; {TRACE}=1 prints it")

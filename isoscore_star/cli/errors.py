"""Failures of commands, each as one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperGroup

from isoscore_star import InvalidValueError, IsoScoreError
from isoscore_star.cli.printable import printable
from isoscore_star.readers import SelectionError

BAD_DATA, BAD_USE, INTERRUPTED = 1, 2, 130

# ClickException, of click or, in newer versions, of typer's copy of it.
_ParsingError: Any = typer.BadParameter.__mro__[2]


class OptionError(InvalidValueError):
    """An option has a value that is allowed for no data."""


class _InterruptedError(Exception):
    """Ctrl-C, as an exception that typer does not catch."""


class _CommandError(Exception):
    """The message and the exit code of a command that failed."""


class Commands(TyperGroup):
    """The commands of an app that `run` runs."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None
        except IsoScoreError as error:
            code = BAD_USE if isinstance(error, (SelectionError, OptionError)) else BAD_DATA
            command = self.commands[ctx.invoked_subcommand]
            raise _CommandError(_message(error, command), code) from error


@contextmanager
def checking_options() -> Iterator[None]:
    """Raise OptionError, which is wrong use, for a value that is not allowed."""
    try:
        yield
    except InvalidValueError as error:
        raise OptionError(*error.parts) from error


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run an app."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a question mark in place of a sign, such as ±, that it cannot write
            stream.reconfigure(errors="replace")
    try:
        code = int(app(arguments, prog_name="isoscore-star", standalone_mode=False) or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the rest, which Python flushes at exit
        return BAD_DATA
    except _ParsingError as error:
        return _fail(_with_help(error), BAD_USE)
    except _CommandError as error:
        return _fail(*error.args)
    except OSError as error:
        return _fail(str(error), BAD_DATA)
    except MemoryError:
        return _fail("out of memory", BAD_DATA)
    except (_InterruptedError, KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)


def _message(error: IsoScoreError, command: Any) -> str:
    """Return the error's message, with the command's option in place of the argument's name."""
    options = {option.name: option.opts[0] for option in command.params if option.param_type_name == "option"}
    name = options.get(error.argument, error.argument)
    return error.reason if name is None else f"{name}: {error.reason}"


def _with_help(error: Any) -> str:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return message if context is None else f"{message} (see {context.command_path} --help)"


def _fail(message: str, code: int) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code

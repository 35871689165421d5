"""The errors that a user of Clickmill can cause. One base, so that the command line and a caller catch one class."""

from __future__ import annotations


class ClickmillError(Exception):
    """Something that the user can mend; the message says what is wrong, with the value received, and what to do.

    Attributes:
      exit_code: of a command that ends by it.
    """

    exit_code: int = 1


class InputError(ClickmillError, ValueError):
    """An argument, a file, a request or a configuration that cannot be used as it is."""

    exit_code = 2


class NotFoundError(InputError, FileNotFoundError):
    """A file or a folder that should be there is not."""


class UnscorableError(InputError):
    """A model cannot score examples: they lack what it reads, or hold it in another form, or it cannot be opened."""


class OccupiedError(InputError, FileExistsError):
    """A place that something would be written to holds something else."""


class RunError(ClickmillError, RuntimeError):
    """A job that began with a usable input and did not end well."""

    exit_code = 1


class NothingNewError(ClickmillError):
    """There is nothing to do: what is there was done before. Schedulers take the exit code for "skipped"."""

    exit_code = 99

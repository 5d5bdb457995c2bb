"""The logger of this package: silent by default, with secrets redacted. Other loggers are never touched."""

from __future__ import annotations

import logging
from typing import ClassVar

from .redaction import redact

__all__ = ["LoggingConfig"]

_ROOT_NAME = "createagents_nb"
_exception_formatter = logging.Formatter()


class _RedactingFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit the format: logging reports that itself
            return True
        redacted = redact(message)
        if redacted != message:
            record.msg, record.args = redacted, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(_exception_formatter.formatException(record.exc_info))
        return True


class LoggingConfig:
    """Logging of this package, and of this package only.

    Nothing is printed until `configure` is called or the application configures
    the logger ``createagents_nb`` itself.

    Example:
        >>> LoggingConfig.configure(level="DEBUG")      # to stderr
        >>> LoggingConfig.reset()
    """

    _handler: ClassVar[logging.Handler | None] = None
    """The handler that `configure` added and `reset` removes."""

    @classmethod
    def get_logger(cls, name: str = _ROOT_NAME) -> logging.Logger:
        """Return the logger ``name`` of this package; secrets in its messages are redacted.

        Args:
            name: usually ``__name__``; a name outside the package gets the prefix ``createagents_nb.``.
        """
        if name != _ROOT_NAME and not name.startswith(_ROOT_NAME + "."):
            name = f"{_ROOT_NAME}.{name}"
        logger = logging.getLogger(name)
        if not any(isinstance(item, _RedactingFilter) for item in logger.filters):
            logger.addFilter(_RedactingFilter())
        return logger

    @classmethod
    def configure(cls, level: int | str = logging.INFO, *, handler: logging.Handler | None = None) -> None:
        """Print this package's messages.

        Args:
            level: a level of `logging`, by number or name.
            handler: where to print; default stderr. Calling again replaces the handler.

        Raises:
            ValueError: unknown level.
        """
        cls.reset()
        cls._handler = handler or logging.StreamHandler()
        if cls._handler.formatter is None:
            cls._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger = logging.getLogger(_ROOT_NAME)
        logger.setLevel(level)
        logger.addHandler(cls._handler)

    @classmethod
    def reset(cls) -> None:
        """Undo `configure`: nothing is printed."""
        logger = logging.getLogger(_ROOT_NAME)
        if cls._handler is not None:
            logger.removeHandler(cls._handler)
            cls._handler = None
        logger.setLevel(logging.NOTSET)


logging.getLogger(_ROOT_NAME).addHandler(logging.NullHandler())

"""Our logger and nobody else's: silent by default, secrets redacted."""

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
        except Exception:  # arguments that do not fit the format: logging itself reports that
            return True
        clean = redact(message)
        if clean != message:
            record.msg, record.args = clean, ()
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

    @classmethod
    def get_logger(cls, name: str = _ROOT_NAME) -> logging.Logger:
        """A logger below ``createagents_nb`` whose messages have their secrets redacted.

        Args:
            name: usually ``__name__``; a name outside the package is put below it.
        """
        if name != _ROOT_NAME and not name.startswith(_ROOT_NAME + "."):
            name = f"{_ROOT_NAME}.{name}"
        logger = logging.getLogger(name)
        if not any(isinstance(known, _RedactingFilter) for known in logger.filters):
            logger.addFilter(_RedactingFilter())
        return logger

    @classmethod
    def configure(cls, level: int | str = logging.INFO, *, handler: logging.Handler | None = None) -> None:
        """Print this package's messages.

        Args:
            level: as in `logging`; default INFO.
            handler: where to; default stderr. Calling again replaces the handler.

        Raises:
            ValueError: the level is unknown.
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
        """Silent again."""
        logger = logging.getLogger(_ROOT_NAME)
        if cls._handler is not None:
            logger.removeHandler(cls._handler)
            cls._handler = None
        logger.setLevel(logging.NOTSET)


logging.getLogger(_ROOT_NAME).addHandler(logging.NullHandler())

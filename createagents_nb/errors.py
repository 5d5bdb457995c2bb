"""Every error this package raises on purpose.

    CreateAgentsError
    ├── ConfigurationError (ValueError)      a wrong argument or setting; nothing was sent
    │   ├── UnknownProviderError
    │   ├── UnknownConfigKeyError            a key that no provider has
    │   ├── UnsupportedConfigError           a key that this provider does not support
    │   ├── MissingKeyError
    │   ├── UnknownArgumentError (TypeError) CreateAgent has no argument of this name
    │   ├── InvalidMessageError
    │   └── InvalidToolError                 no description, no schema, duplicate name
    │       └── UnknownToolError
    ├── NotebookError                        a magic called incorrectly
    │   ├── MagicUsageError
    │   ├── AgentNotFoundError
    │   └── InterpolationError
    ├── ProviderError                        the server, or the connection to it
    │   ├── ProviderConnectionError
    │   │   └── ProviderTimeoutError
    │   ├── AuthenticationError              401, 403
    │   ├── ModelNotFoundError               404
    │   ├── RateLimitError                   429
    │   │   └── QuotaExceededError           402, or no credit left
    │   ├── InvalidRequestError              other 4xx
    │   │   └── ContextLengthError
    │   ├── ContentFilteredError             the prompt or the answer was blocked
    │   ├── ServerError                      5xx
    │   └── ProtocolError                    a malformed reply
    │       ├── EmptyReplyError
    │       └── IncompleteReplyError         the stream ended early
    ├── ApprovalError                        an invalid decision on a tool call
    ├── BudgetExceededError                  the recorder's budget is spent
    ├── WorkerError                          a Dask worker was lost or failed
    ├── RecorderFileError                    a file of recorded calls that cannot be read
    ├── TalkFileError                        a conversation file that cannot be read or written
    ├── BridgeError (RuntimeError)           synchronous code cannot wait here
    └── TurnStopped                          the user interrupted the cell

A message is one or two sentences and says what to do. It never contains a key.
"""

from __future__ import annotations

from .redaction import redact
from .text import clean_text

__all__ = [
    "AgentNotFoundError",
    "ApprovalError",
    "AuthenticationError",
    "BridgeError",
    "BudgetExceededError",
    "ConfigurationError",
    "ContentFilteredError",
    "ContextLengthError",
    "CreateAgentsError",
    "EmptyReplyError",
    "IncompleteReplyError",
    "InterpolationError",
    "InvalidMessageError",
    "InvalidRequestError",
    "InvalidToolError",
    "MagicUsageError",
    "MissingKeyError",
    "ModelNotFoundError",
    "NotebookError",
    "ProtocolError",
    "ProviderConnectionError",
    "ProviderError",
    "ProviderTimeoutError",
    "QuotaExceededError",
    "RateLimitError",
    "RecorderFileError",
    "ServerError",
    "TalkFileError",
    "TurnStopped",
    "UnknownArgumentError",
    "UnknownConfigKeyError",
    "UnknownProviderError",
    "UnknownToolError",
    "UnsupportedConfigError",
    "WorkerError",
]


class CreateAgentsError(Exception):
    """Base class of all errors of this package."""

    def __init__(self, message: str = "") -> None:
        # A message may quote an argument, and the argument may be a misplaced key.
        super().__init__(redact(message))

    def _render_traceback_(self) -> list[str]:
        # IPython calls this before it prints a traceback: a notebook shows the message without the frames.
        # `%tb` still has them.
        return [f"\x1b[31m{type(self).__name__}\x1b[39m: {self}", *getattr(self, "__notes__", ())]


class ConfigurationError(CreateAgentsError, ValueError):
    """An argument or setting is wrong; nothing was sent."""


class UnknownProviderError(ConfigurationError):
    """No provider has this name."""


class UnknownConfigKeyError(ConfigurationError):
    """``config`` has a key that no provider has, or a value of the wrong type."""


class UnsupportedConfigError(ConfigurationError):
    """``config`` has a key that this provider does not support."""


class MissingKeyError(ConfigurationError):
    """The provider needs an API key and none was given."""


class UnknownArgumentError(ConfigurationError, TypeError):
    """`CreateAgent` has no argument of this name; the message names the place where it belongs."""


class InvalidMessageError(ConfigurationError):
    """The message is empty or not a string."""


class InvalidToolError(ConfigurationError):
    """A tool has no valid name, description or schema, or two tools have the same name."""


class UnknownToolError(InvalidToolError):
    """No built-in tool has this name."""


class NotebookError(CreateAgentsError):
    """A magic was called incorrectly; nothing was sent."""


class MagicUsageError(NotebookError):
    """Unknown option, missing argument or empty cell body."""


class AgentNotFoundError(NotebookError):
    """The name is neither an agent variable nor a registered agent."""


class InterpolationError(NotebookError):
    """A ``{{…}}`` in the prompt could not be filled in."""


class ProviderError(CreateAgentsError):
    """The provider rejected the request, failed, or could not be reached.

    Attributes:
        provider: name of the provider, such as ``"openai"``.
        status_code: HTTP status; None without an HTTP response.
        retry_after_s: seconds that the server asks to wait; None if it does not say.
        retries: number of times the request was sent again.
        adjusted: what was left out of the request or renamed in it before it failed; None for nothing.
        refuses_message: the server refused what was said (too long, blocked): sending it again fails again.
    """

    retry_after_s: float | None = None
    retries: int = 0
    adjusted: str | None = None
    refuses_message: bool = False

    def __init__(self, message: str, *, provider: str | None = None, status_code: int | None = None) -> None:
        super().__init__(clean_text(message))  # it quotes the server
        self.provider = provider
        self.status_code = status_code


class ProviderConnectionError(ProviderError):
    """The connection was refused or reset, or the host was not found."""


class ProviderTimeoutError(ProviderConnectionError):
    """No data arrived for ``timeout_s`` seconds.

    Attributes:
        may_be_running: whether the server may still be working on the request, which is not sent again then.
    """

    may_be_running: bool = False


class AuthenticationError(ProviderError):
    """The key was rejected (401) or lacks permission (403)."""


class ModelNotFoundError(ProviderError):
    """The server has no model of this name."""


class RateLimitError(ProviderError):
    """Too many requests, or the quota is used up (429)."""


class QuotaExceededError(RateLimitError):
    """No credit is left, or a spending limit is reached (402, or 429 with such words); waiting does not help."""


class InvalidRequestError(ProviderError):
    """The server rejected the request (other 4xx)."""


class ContextLengthError(InvalidRequestError):
    """The prompt is longer than the model's context, or has more tokens than the server takes in a minute."""

    refuses_message = True


class ContentFilteredError(ProviderError):
    """A content filter or moderation blocked the prompt, or ended the answer; the text so far is kept."""

    refuses_message = True


class ServerError(ProviderError):
    """The server failed (5xx, or an error in the stream)."""


class ProtocolError(ProviderError):
    """The reply is malformed."""


class EmptyReplyError(ProtocolError):
    """The server answered 200 with an empty reply."""


class IncompleteReplyError(ProtocolError):
    """The stream ended without its end marker; the text so far is kept."""


class ApprovalError(CreateAgentsError):
    """No such call is waiting for approval, its new arguments are invalid, or the answer is not a decision."""


class BudgetExceededError(CreateAgentsError):
    """The recorder's budget is spent; the request was not sent."""


class WorkerError(CreateAgentsError):
    """A Dask worker was lost with its rows, or could not run them."""


class RecorderFileError(CreateAgentsError):
    """A file of recorded calls is broken, of another version, or something else."""


class TalkFileError(CreateAgentsError):
    """A conversation file is broken, too large or something else, or cannot be written."""


class BridgeError(CreateAgentsError, RuntimeError):
    """The running event loop cannot be re-entered (for example, uvloop); use ``await`` instead."""


class TurnStopped(CreateAgentsError):  # noqa: N818 - not an error: the user stopped the cell
    """The user interrupted the cell; the text so far is kept in the response and in the history.

    A cell raises it in place of ``CancelledError``, so that "Run All" stops there and the cell shows one line.
    """

"""Every error this package raises on purpose.

    CreateAgentsError
    ├── ConfigurationError (ValueError)      something is wrong before anything is sent
    │   ├── UnknownProviderError
    │   ├── UnknownConfigKeyError            a key that no provider knows
    │   ├── UnsupportedConfigError           a key that this provider cannot take
    │   ├── MissingKeyError
    │   ├── InvalidMessageError
    │   └── InvalidToolError                 no description, no schema, two tools of one name
    │       └── UnknownToolError
    ├── NotebookError                        a magic that was called wrongly
    │   ├── MagicUsageError
    │   ├── AgentNotFoundError
    │   └── InterpolationError
    ├── ProviderError                        the other side, or the way to it
    │   ├── ProviderConnectionError
    │   │   └── ProviderTimeoutError
    │   ├── AuthenticationError              401, 403
    │   ├── ModelNotFoundError               404
    │   ├── RateLimitError                   429
    │   ├── InvalidRequestError              other 4xx
    │   │   └── ContextLengthError
    │   ├── ServerError                      5xx
    │   └── ProtocolError                    bytes that are not what the format promises
    │       ├── EmptyReplyError
    │       └── IncompleteReplyError         the stream was cut before it was finished
    ├── ApprovalError                        a decision on a tool call that cannot be taken
    ├── BudgetExceededError                  what the recorder may spend is spent
    ├── WorkerError                          a Dask worker was lost, or could not do its part
    ├── RecorderFileError                    a file of recorded calls that cannot be read
    ├── TalkFileError                        a conversation that cannot be saved there, or loaded from there
    ├── BridgeError (RuntimeError)           synchronous code cannot wait here
    └── TurnStopped                          the user pressed stop while a cell was waiting

A message is one or two sentences and names the way out. Keys never appear in one.
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
    "RateLimitError",
    "RecorderFileError",
    "ServerError",
    "TalkFileError",
    "TurnStopped",
    "UnknownConfigKeyError",
    "UnknownProviderError",
    "UnknownToolError",
    "UnsupportedConfigError",
    "WorkerError",
]


class CreateAgentsError(Exception):
    """Base of the tree above; ``except CreateAgentsError`` catches all of it."""

    def __init__(self, message: str = "") -> None:
        # A key that was given in the wrong place is quoted by the message that says so.
        super().__init__(redact(message))

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this before it prints a traceback: a notebook user needs the sentence,
        # not the frames. `%tb` still has them.
        return [f"\x1b[31m{type(self).__name__}\x1b[39m: {self}", *getattr(self, "__notes__", ())]


class ConfigurationError(CreateAgentsError, ValueError):
    """An argument or a setting is wrong; nothing was sent."""


class UnknownProviderError(ConfigurationError):
    """No provider has this name."""


class UnknownConfigKeyError(ConfigurationError):
    """``config`` has a key that no provider knows, or a value of the wrong type."""


class UnsupportedConfigError(ConfigurationError):
    """``config`` has a key that this provider cannot take."""


class MissingKeyError(ConfigurationError):
    """The provider needs an API key and none was given."""


class InvalidMessageError(ConfigurationError):
    """The message is empty or not a string."""


class InvalidToolError(ConfigurationError):
    """A tool cannot be offered to a model as it is."""


class UnknownToolError(InvalidToolError):
    """No built-in tool has this name."""


class NotebookError(CreateAgentsError):
    """A magic was called in a way that cannot work; nothing was sent."""


class MagicUsageError(NotebookError):
    """Unknown option, missing argument or empty cell body."""


class AgentNotFoundError(NotebookError):
    """The name is neither an agent variable nor a registered agent."""


class InterpolationError(NotebookError):
    """A ``{{…}}`` in the prompt could not be filled in."""


class ProviderError(CreateAgentsError):
    """The provider refused, failed or could not be reached.

    Attributes:
        provider: name of the provider, such as ``"openai"``.
        status_code: HTTP status, or None when there was no HTTP answer.
        retry_after_s: how long the server asks to wait, in seconds; None where it does not say.
        retries: how often the request had been sent again.
    """

    retry_after_s: float | None = None
    retries: int = 0

    def __init__(self, message: str, *, provider: str | None = None, status_code: int | None = None) -> None:
        super().__init__(clean_text(message))  # much of it is what a server said
        self.provider = provider
        self.status_code = status_code


class ProviderConnectionError(ProviderError):
    """Refused, reset, or not found."""


class ProviderTimeoutError(ProviderConnectionError):
    """No byte arrived for ``timeout_s`` seconds."""


class AuthenticationError(ProviderError):
    """The key was refused (401) or may not do this (403)."""


class ModelNotFoundError(ProviderError):
    """The server has no model of this name."""


class RateLimitError(ProviderError):
    """Too many requests, or the quota is used up (429)."""


class InvalidRequestError(ProviderError):
    """The server understood the request and refused it (other 4xx)."""


class ContextLengthError(InvalidRequestError):
    """The prompt is longer than the model's context."""


class ServerError(ProviderError):
    """The server failed (5xx, or an error sent in mid-stream)."""


class ProtocolError(ProviderError):
    """The answer is not in the format that was promised."""


class EmptyReplyError(ProtocolError):
    """The server answered 200 and then said nothing at all."""


class IncompleteReplyError(ProtocolError):
    """The stream ended without saying that it was finished; the text so far is kept."""


class ApprovalError(CreateAgentsError):
    """No such call waits for approval, its new arguments do not fit, or what was said is no decision."""


class BudgetExceededError(CreateAgentsError):
    """The recorder's budget is spent; the request was not sent."""


class WorkerError(CreateAgentsError):
    """A Dask worker was lost with its rows, or could not run them."""


class RecorderFileError(CreateAgentsError):
    """A file is no record of calls, is broken, or comes from another version."""


class TalkFileError(CreateAgentsError):
    """A file is no conversation of an agent, is broken or too large, or cannot be written."""


class BridgeError(CreateAgentsError, RuntimeError):
    """The running event loop cannot be re-entered (uvloop, for one); `await` instead."""


class TurnStopped(CreateAgentsError):  # noqa: N818 - not a fault: what a cell raises when the user stops it
    """The user interrupted the cell; the text so far is kept in the response and in the history.

    A notebook cell raises it instead of ``CancelledError``, so that "Run All" stops here
    and the cell shows one line.
    """

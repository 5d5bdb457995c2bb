"""What an error means by its words: servers send one refusal with many statuses, and many with one status.

The words are from public bug reports and documentation of OpenAI, Azure, Google, Anthropic, xAI, Groq, Mistral,
Cohere, DeepSeek, Moonshot, DashScope, MiniMax, Bedrock, OpenRouter, Hugging Face, vLLM, SGLang, llama.cpp and
Ollama. Who sends them does not matter: servers pass on what others say.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from ..errors import (
    AuthenticationError,
    ContentFilteredError,
    ContextLengthError,
    InvalidRequestError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
)

__all__ = ["KEY", "ErrorKind", "find_kind", "may_pass"]


def _any(*parts: str) -> re.Pattern[str]:
    return re.compile("(?i)" + "|".join(parts))


@dataclass(frozen=True, slots=True, eq=False)
class ErrorKind:
    """One kind of refusal.

    Attributes:
        error: its type.
        words: what such an error says.
        what, way: the cause and the way out, with ``{label}``, ``{said}`` and ``{key_hint}``.
        unless: words with which it is of another kind.
        statuses: those that it comes with; None for an error inside a reply that names none.
        refuses_message: what was said is refused, so that sending it again fails again.
    """

    error: type[ProviderError]
    words: re.Pattern[str]
    what: str
    way: str
    unless: re.Pattern[str] | None = None
    statuses: Collection[int | None] = frozenset({None, *range(400, 600)})
    refuses_message: bool = False

    def matches(self, status: int | None, words: str) -> bool:
        """Whether an error with this status and these words is of this kind."""
        is_other = self.unless is not None and self.unless.search(words) is not None
        return status in self.statuses and not is_other and self.words.search(words) is not None


_REFUSALS = frozenset({None, *range(400, 500)})
_BAD_REQUESTS = frozenset({None, 400, 404, 422, 500, 501})

_SLOW_DOWN = (
    r"rate[ _-]?limit(?:s|ed|ing)?\b",
    r"rate_?limit_?(?:error|exceeded|reached)",
    r"too[ _]many[ _]requests",
    r"resource[ _]?exhausted",
    r"throttl(?:ed|ing)",
    r"allocated quota",  # DashScope's words for tokens a minute, with the code insufficient_quota
)
_UNKNOWN_FIELD = (
    r"\b(?:unknown|unrecognized|unexpected|unsupported)[ _](?:request )?(?:parameter|argument|field|option|key)"
)
_TAKES_TIME = (
    r"\btime(?:d|s)?[ _-]?out\b|\btime (?:limit )?(?:was |is |has been )?exceeded|\bdeadline\b",
    r"\bexceed(?:s|ed)? (?:the (?:limit|maximum) of )?[\d.]+ ?(?:ms|s|m|min|sec|seconds?|minutes?)\b",
)
_IS_BUSY = r"\b(?:try again|retry) (?:later|soon|shortly|in a (?:while|moment|few))\b"
# What config['max_tokens'] asks for, unless the message is counted with it.
_ANSWER_TOKENS = (
    r"(?:\A|[.:\n-] ?)[`'\"]?(?:the |requested |maximum |max |number of |count of )*"
    r"(?:(?:output|completion|generated|new)[ _]tokens?|max_(?:(?:output|completion|new)_)?tokens)\b"
    r"(?![^\n]{0,300}?\b(?:input|prompt|messages?)\b)"
    r"[^\n]{0,60}?\b(?:exceed(?:s|ed|ing)?|too (?:large|high|big)|must be|greater than|larger than|cannot)\b"
)
_WAY_OUT_OF_BILLS = "Check billing there: waiting does not help"
_NO_CREDIT_LEFT = "{label} says that there is no credit left ({said})"

NO_CREDIT = ErrorKind(
    QuotaExceededError,
    _any(
        r"insufficient[ _](?:user[ _]|account[ _])?(?:quota|balance|credits?|funds)",
        r"credit insufficient|exceeded_current_quota|monthly included credits|payment required|\barrearage\b",
        r"balance (?:is )?(?:too low|not enough|insufficient|negative)|not enough balance|past invoices",
        r"(?:no|out of|not enough|more|all available) credits?\b|n[o'’]t have (?:any|enough) credits?\b",
        r"(?:credit|key) limit exceeded",
        r"credits? (?:are |is |have been |has been )?(?:depleted|exhausted|used up)",
        r"budget[ _](?:has been )?exceeded|free tier [^\n]{0,60}?\bexhausted",
        r"billing_(?:hard_limit_reached|not_active|disabled)|billing hard limit|requires billing",
        r"account is not active|spending (?:limit|cap)|reached your (?:specified|monthly)[^\n]{0,30}?\blimit",
    ),
    _NO_CREDIT_LEFT,
    _WAY_OUT_OF_BILLS,
    unless=_any("allocated quota"),
)
NO_QUOTA = ErrorKind(
    QuotaExceededError,
    _any("exceeded your current quota", "check your plan and billing"),
    _NO_CREDIT_LEFT,
    _WAY_OUT_OF_BILLS,
    # Google says so of each limit, and how long to wait.
    unless=_any(r"resource[ _]?exhausted", r"(?:try again|retry)\W+(?:in|after)\W+\d"),
)
TOKENS_A_MINUTE = ErrorKind(
    ContextLengthError,
    _any(r"\brequest too large\b[^\n]{0,300}?(?:\btokens? per (?:min|hour|day)|\bTP[MHD]\b)"),
    "{label} takes fewer tokens a minute than this message has ({said})",
    "Shorten the message, or agent.clear_history(): waiting alone does not help",
    refuses_message=True,
)
TOO_LARGE = ErrorKind(
    ContextLengthError,
    _any(
        r"request_too_large|\b(?:request|body|payload|entity|content) (?:is )?too large\b|tokens_limit_reached",
        r"exceeds the maximum (?:allowed )?(?:request |body )?(?:size|number of bytes)",
    ),
    "{label} takes no request of this size ({said})",
    "Shorten the message, or agent.clear_history()",
    statuses=frozenset({None, 400, 413}),
    refuses_message=True,
)
CONTEXT = ErrorKind(
    ContextLengthError,
    _any(
        r"context_length_exceeded|exceed_context_size|context_window_exceeded",
        # Names of tools, metadata and more are too long with the same code.
        r"'(?:(?:messages\[\d+\]\.content|input\[\d+\]\.(?:content|output))[\w.\[\]]*"
        r"|input|instructions|prompt)': string too long",
        r"max_prompt_tokens_exceeded|\b(?:n_ctx|max_seq_len|max_model_len)\b",
        r"\b(?:exceed\w*|max|maximum|(?:larger|longer|greater|more|bigger) than|over|beyond|fits?|out of"
        r"|too (?:long|large|big)(?: for)?)\b[^\n]{0,80}?\bcontext[ _-]?(?:length|size|window|limit)",
        r"context[ _-]?(?:length|size|window|limit)\b[^\n]{0,60}?"
        r"\b(?:exceed\w*|overflow\w*|too (?:small|short)|reached|is only|is \d+)",
        r"context overflow|range of input length|input length limit",
        r"\b(?:prompt|input|message|conversation|text|content|query)s? (?:is |are )?too long\b",
        r"\b(?:prompt|input)(?: length)?\b[^\n]{0,30}?\bexceed(?:s|ed)?\b",
        r"maximum (?:allowed )?(?:prompt|model|input|sequence) length|longer than the (?:maximum|model)",
        r"\b(?:input|prompt) token count[^\n]{0,60}?\bbut\b|exceed\w* (?:the )?(?:model'?s? )?token limit",
        r"\btoo many (?:input |prompt )?tokens\b|reduce (?:the (?:length|number of tokens)|your (?:prompt|input))",
        r"\btokens?\b[^\n]{0,80}?\bexceed(?:s|ed)?\b[^\n]{0,60}?\b(?:limit|max|maximum|allowed|configured)\b",
        r"\btokens?\b[^\n]{0,60}?\bcannot exceed\b|exceeded model token limit|\btoken limit exceeded",
        r"inputs`? tokens \+ `?max_new_tokens|must have less than \d+ tokens|more than max tokens allowed",
        r"kv[ _-]?cache[^\n]{0,60}?\b(?:full|exceed\w*|too (?:small|short)|no (?:slot|space))",
        r"(?:exceed\w*|larger than|no (?:slot|space)|too (?:long|large))[^\n]{0,60}?\bkv[ _-]?cache",
    ),
    "The conversation is longer than the model's context ({said})",
    "Shorten the prompt, or agent.clear_history()",
    unless=_any(
        *(*_SLOW_DOWN, r"\bper (?:minute|hour|day)\b", r"\bplease wait\b", _IS_BUSY),
        *(
            *_TAKES_TIME,
            _UNKNOWN_FIELD,
            _ANSWER_TOKENS,
            r"\bstop[ _]sequences?\b[^\n]{0,30}?\btoo (?:many|long)\b",
        ),
    ),
    statuses=frozenset({None, *range(400, 600)}) - {404, 405, 408, 429, 504},
    refuses_message=True,
)
FILTERED = ErrorKind(
    ContentFilteredError,
    _any(
        r"\bcontent[ _-]?filter|ResponsibleAIPolicyViolation|content management policy|content_policy_violation",
        r"data[ _]?inspection[ _]?failed|inappropriate content|\bnew_sensitive\b|content exists risk",
        r"prohibited[ _]content|(?:sensitive|unsafe|harmful) content|unsafe or sensitive|\bblock_?reason\b",
    ),
    "{label} blocked the message by its content filter ({said})",
    "Change its wording, or choose another model",
    unless=_any(_UNKNOWN_FIELD),
    statuses=_REFUSALS,
    refuses_message=True,
)
MODERATED = ErrorKind(
    InvalidRequestError,
    _any(
        r"requires moderation|moderation_blocked|\b(?:was|were|been|is|are) flagged\b|\bflagged (?:as|by|for)\b",
        r"\b(?:against|comply with|breach\w*|because of|due to|blocked by|rejected by) (?:(?:our|the|its|your) )?"
        r"[^\n]{0,20}?\b(?:usage|content|safety) polic",
        r"violat\w+ [^\n]{0,60}?\b(?:polic(?:y|ies)|terms of service)",
        r"(?:blocked|rejected|refused) (?:by|as a result of) (?:our |the )?(?:safety|moderation)",
    ),
    "{label} refused what the message says ({said})",
    "Change its wording, or choose another model",
    statuses=_REFUSALS,
    refuses_message=True,
)
REGION = ErrorKind(
    InvalidRequestError,
    _any(
        r"unsupported[ _](?:country|region)|country, region,? or territory|user location is not supported",
        r"(?:n[o']t (?:available|supported|offered|accessible)|unavailable) in (?:your|this) "
        r"(?:country|region|location|territory)|unavailable for legal reasons",
        r"\byour (?:country|region|location) (?:is )?(?:not|blocked|restricted|unsupported|unavailable)\b",
    ),
    "{label} is not offered in your country or region ({said})",
    "Choose another server or model",
    statuses=_REFUSALS,
)
KEY = ErrorKind(
    AuthenticationError,
    _any(
        r"api[ _-]?key[ _](?:is )?(?:not valid|invalid|expired|not found|missing|required)",
        r"(?:invalid|incorrect|missing|wrong|no|a valid)[ _](?:x-)?api[ _-]?key|invalid subscription key",
        r"authentication[ _]?error|authentication (?:failed|required)|invalid authentication|\bunauthenticated\b",
        r"(?:auth|access|bearer)[ _]token (?:is |has )?(?:invalid|expired)|\bunauthorized\b",
    ),
    "{label} refused the key ({said})",
    "{key_hint}",
    statuses=frozenset({None, 400, 403, 422, 500}),
)
TOOLS_ARE_OFF = ErrorKind(
    InvalidRequestError,
    _any(r"--enable-auto-tool-choice|--tool-call-parser|(?:requires?|needs?|use|with) `?--jinja"),
    "The server was started without tools ({said})",
    "Start it with the option that it names, or leave tools out",
)
NO_TOOLS = ErrorKind(
    InvalidRequestError,
    _any(
        r"support tool use|n[o']t support (?:the )?(?:use of )?[`'\"]?(?:tools?\b|function|tool[ _]?(?:use|call))",
        r"(?<!parallel[ _])\b(?:tool|function)s?(?:[ _](?:use|call(?:s|ing)?))?[`'\"]? (?:is |are )?"
        r"(?:not (?:supported|enabled|available)|unsupported)",
        r"unsupported param(?:eter)?:? [`'\"]?tools\b",
    ),
    "The model has no tools here ({said})",
    "Leave tools out, or choose another model",
    statuses=_BAD_REQUESTS,
)
NO_IMAGES = ErrorKind(
    InvalidRequestError,
    _any(r"support image input|n[o']t support (?:image|vision)|image_url is only supported"),
    "The model takes no images here ({said})",
    "Send text alone, or choose another model",
    statuses=_BAD_REQUESTS,
)
NO_ENDPOINT = ErrorKind(
    InvalidRequestError,
    _any(r"no (?:endpoints|allowed providers)\b.{0,20}?\b(?:found|available)"),
    "{label} has none that takes this request ({said})",
    "Look at the model, config=…, the tools and the message",
    statuses=_BAD_REQUESTS,
)
RATE = ErrorKind(
    RateLimitError,
    _any(*_SLOW_DOWN),
    "{label} is refusing more for now ({said})",
    "Wait, or check the quota",
    statuses=frozenset({None, 400, 403, 413, 422, 429, *range(500, 600)}),
)

_KINDS = (
    NO_CREDIT,
    NO_QUOTA,
    TOKENS_A_MINUTE,
    TOO_LARGE,
    CONTEXT,
    FILTERED,
    MODERATED,
    REGION,
    KEY,
    TOOLS_ARE_OFF,
    NO_TOOLS,
    NO_IMAGES,
    NO_ENDPOINT,
    RATE,
)


def find_kind(status: int | None, words: str) -> ErrorKind | None:
    """Return what an error is by its words; None where its status says it.

    Args:
        status: None for an error inside a reply that names none.
        words: all texts of its body.

    >>> find_kind(400, "API key not valid. Please pass a valid API key.") is KEY
    True
    """
    if status == 402:
        return NO_CREDIT
    if status == 401:
        return NO_CREDIT if NO_CREDIT.matches(status, words) else None
    return next((kind for kind in _KINDS if kind.matches(status, words)), None)


def may_pass(status: int, words: str) -> bool:
    """Whether a request that was refused with these words may be answered when it is sent again."""
    return find_kind(status, words) in (None, RATE)

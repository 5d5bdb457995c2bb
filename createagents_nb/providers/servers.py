"""Facts about known servers that speak OpenAI's API: one row per server, each with its source.

A row is found by its name, where the user names it as the provider, else by the host of the address. What no row
knows is learned from refusals, see `createagents_nb.providers.refusals`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from ..redaction import Secret, as_secret

__all__ = ["OPENAI", "SERVERS", "UNKNOWN", "CallIds", "ServerFacts", "facts_of"]

CallIds: TypeAlias = Literal["usual", "short", "own"]
"""Which ids of tool calls a server takes, see `createagents_nb.providers.wire_format.WireIds`."""


def _effort(think: bool | str) -> dict[str, Any]:
    return {"reasoning_effort": think if isinstance(think, str) else "medium" if think else "none"}


def _effort_high(think: bool | str) -> dict[str, Any]:
    return _effort("high" if think is True else think)


def _is_on(think: bool | str) -> bool:
    return think not in (False, "none")


def _level(think: bool | str) -> dict[str, Any]:
    """The level as a field of its own, where one is named."""
    return _effort(think) if isinstance(think, str) and think != "none" else {}


def _thinking(think: bool | str) -> dict[str, Any]:
    return {"thinking": {"type": "enabled" if _is_on(think) else "disabled"}} | _level(think)


def _thinking_or_level(think: bool | str) -> dict[str, Any]:
    return _level(think) or _thinking(think)


def _adaptive(think: bool | str) -> dict[str, Any]:
    return {"thinking": {"type": "adaptive" if _is_on(think) else "disabled"}} | _level(think)


def _enable_thinking(think: bool | str) -> dict[str, Any]:
    return {"enable_thinking": _is_on(think)} | _level(think)


def _template(think: bool | str) -> dict[str, Any]:
    # Templates of chat models know either name; they ignore the other.
    on = _is_on(think)
    return {"chat_template_kwargs": {"enable_thinking": on, "thinking": on}} | _level(think)


def _reasoning(think: bool | str) -> dict[str, Any]:
    effort = {"effort": think} if isinstance(think, str) else {"enabled": think}
    return {"reasoning": effort}


def _reasoning_or_level(think: bool | str) -> dict[str, Any]:
    return _level(think) or {"reasoning": {"enabled": _is_on(think)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """One server.

    Attributes:
        name: how users name it as a provider.
        label: its name in messages.
        source: the address of the documentation that the facts come from.
        base_url: its address; None where each user has an own one.
        hosts: host names of its addresses; one that begins with a dot or a dash stands for all that end in it.
        key_variables: environment variables with its key; the first is the one to tell users.
        address_variable: the environment variable with its address.
        address_suffix: added to an address from that variable that lacks it.
        needs_key: whether it refuses requests without a key.
        key_prefixes: how its keys begin, as far as no other server's do.
        default_model: the model of an agent that names none.
        max_tokens: the field that limits the tokens of an answer.
        stream_usage: whether ``stream_options`` asks for the usage of a stream.
        think: makes fields of the body from ``config["think"]``.
        takes_reasoning: whether Chat Completions takes an object ``reasoning``, as OpenRouter's does.
        reasoning_required: a field that it wants, not empty, on every assistant message.
        foreign_call_fields: fields for tool calls that another server wrote.
        call_ids: which ids of tool calls it takes, see `createagents_nb.providers.wire_format.WireIds`.
        has_responses: whether requests go to the Responses API by default.
        price_provider: its id in genai-prices; None to find it by the host, empty for none.
        telemetry_provider: its name in the OpenTelemetry conventions; None for ``name``.

    Example:
        >>> facts_of(None, "https://api.deepseek.com/v1").name
        'deepseek'
    """

    name: str
    label: str
    source: str
    base_url: str | None
    hosts: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    address_variable: str | None = None
    address_suffix: str = ""
    needs_key: bool = True
    key_prefixes: tuple[str, ...] = ()
    default_model: str | None = None
    max_tokens: str = "max_tokens"
    stream_usage: bool = True
    think: Callable[[bool | str], Mapping[str, Any]] = _effort
    takes_reasoning: bool = False
    reasoning_required: str | None = None
    foreign_call_fields: Mapping[str, Any] = field(default_factory=dict)
    call_ids: CallIds = "usual"
    has_responses: bool = False
    price_provider: str | None = None
    telemetry_provider: str | None = None

    @property
    def key(self) -> Secret | None:
        """The key in the environment, or None."""
        return next(filter(None, (as_secret(os.environ.get(name)) for name in self.key_variables)), None)

    @property
    def address(self) -> Secret | None:
        """The address in the environment, or None."""
        address = as_secret(os.environ.get(self.address_variable or ""))
        return Secret(self.complete(address)) if address else None

    @property
    def runs_at_home(self) -> bool:
        """Whether it is a program that users run themselves."""
        return not self.hosts and self.base_url is not None

    def complete(self, address: str) -> str:
        """Add the path that users leave out: an Azure resource is known by its host.

        >>> SERVERS["azure"].complete("https://mine.openai.azure.com/")
        'https://mine.openai.azure.com/openai/v1'
        """
        try:
            is_whole = not self.address_suffix or urlsplit(address).path.strip("/")
        except ValueError:  # the check of addresses says what is wrong
            is_whole = True
        return address if is_whole else address.rstrip("/") + self.address_suffix

    def is_at(self, url: str) -> bool:
        """Whether an address is one of this server's."""
        host = urlsplit(url).hostname or ""
        host = host.removesuffix(".")
        return any(host.endswith(known) if known[0] in ".-" else host == known for known in self.hosts)


OPENAI: Final = ServerFacts(
    name="openai",
    label="OpenAI",
    source="https://platform.openai.com/docs/api-reference",
    base_url="https://api.openai.com/v1",
    hosts=("api.openai.com", ".api.openai.com"),
    key_variables=("OPENAI_API_KEY",),
    address_variable="OPENAI_BASE_URL",
    default_model="gpt-6-luna",
    key_prefixes=("sk-proj-", "sk-svcacct-", "sk-admin-"),
    max_tokens="max_completion_tokens",
    has_responses=True,
    price_provider="openai",
)

UNKNOWN: Final = ServerFacts(
    name="openai",
    label="",
    source="https://platform.openai.com/docs/api-reference/chat",
    base_url=None,
    needs_key=False,
)
"""What is assumed of a server that no row describes."""

_HOSTED: Final = (
    ServerFacts(
        name="azure",
        label="Azure OpenAI",
        source="https://learn.microsoft.com/en-us/azure/foundry/openai/api-version-lifecycle",
        base_url=None,
        hosts=(
            ".openai.azure.com",
            ".openai.azure.us",
            ".openai.azure.cn",
            ".services.ai.azure.com",
            ".cognitiveservices.azure.com",
        ),
        key_variables=("AZURE_OPENAI_API_KEY",),
        address_variable="AZURE_OPENAI_ENDPOINT",
        address_suffix="/openai/v1",
        max_tokens="max_completion_tokens",
        has_responses=True,
        price_provider="azure",
        telemetry_provider="azure.ai.openai",
    ),
    ServerFacts(
        name="gemini",
        label="Google Gemini",
        source="https://ai.google.dev/gemini-api/docs/openai",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        hosts=("generativelanguage.googleapis.com", "aiplatform.googleapis.com", "-aiplatform.googleapis.com"),
        key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        key_prefixes=("AIza",),
        default_model="gemini-3.8-flash",
        # Documented for calls that another model wrote: https://ai.google.dev/gemini-api/docs/thought-signatures
        foreign_call_fields={
            "extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}
        },
        price_provider="google",
        telemetry_provider="gcp.gemini",
    ),
    ServerFacts(
        name="anthropic",
        label="Anthropic",
        source="https://platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk",
        base_url="https://api.anthropic.com/v1",
        hosts=("api.anthropic.com",),
        key_variables=("ANTHROPIC_API_KEY",),
        key_prefixes=("sk-ant-",),
        default_model="claude-haiku-5-5",
        think=_adaptive,
        price_provider="anthropic",
    ),
    ServerFacts(
        name="deepseek",
        label="DeepSeek",
        source="https://api-docs.deepseek.com/guides/thinking_mode",
        base_url="https://api.deepseek.com",
        hosts=("api.deepseek.com",),
        key_variables=("DEEPSEEK_API_KEY",),
        default_model="deepseek-flash",
        think=_thinking,
        reasoning_required="reasoning_content",
        price_provider="deepseek",
    ),
    ServerFacts(
        name="openrouter",
        label="OpenRouter",
        source="https://openrouter.ai/docs/use-cases/reasoning-tokens",
        base_url="https://openrouter.ai/api/v1",
        hosts=("openrouter.ai",),
        key_variables=("OPENROUTER_API_KEY",),
        key_prefixes=("sk-or-",),
        default_model="openai/gpt-6-luna",
        think=_reasoning,
        takes_reasoning=True,
        price_provider="openrouter",
    ),
    ServerFacts(
        name="groq",
        label="Groq",
        source="https://console.groq.com/docs/api-reference",
        base_url="https://api.groq.com/openai/v1",
        hosts=("api.groq.com",),
        key_variables=("GROQ_API_KEY",),
        key_prefixes=("gsk_",),
        default_model="openai/gpt-oss-120b",
        max_tokens="max_completion_tokens",
        price_provider="groq",
    ),
    ServerFacts(
        name="mistral",
        label="Mistral",
        source="https://docs.mistral.ai/capabilities/reasoning/adjustable",
        base_url="https://api.mistral.ai/v1",
        hosts=("api.mistral.ai",),
        key_variables=("MISTRAL_API_KEY",),
        default_model="mistral-small-latest",
        # It refuses fields that it does not know, and sends the usage unasked:
        # https://github.com/openai/openai-agents-python/issues/442
        stream_usage=False,
        think=_effort_high,
        call_ids="short",
        price_provider="mistral",
        telemetry_provider="mistral_ai",
    ),
    ServerFacts(
        name="xai",
        label="xAI",
        source="https://docs.x.ai/docs/guides/reasoning",
        base_url="https://api.x.ai/v1",
        hosts=("api.x.ai", ".api.x.ai"),
        key_variables=("XAI_API_KEY",),
        key_prefixes=("xai-",),
        default_model="grok-4.7",
        max_tokens="max_completion_tokens",
        price_provider="x-ai",
        telemetry_provider="x_ai",
    ),
    ServerFacts(
        name="together",
        label="Together AI",
        source="https://docs.together.ai/docs/inference/chat/reasoning",
        base_url="https://api.together.xyz/v1",
        hosts=("api.together.xyz", "api.together.ai", "api-inference.together.ai"),
        key_variables=("TOGETHER_API_KEY",),
        default_model="openai/gpt-oss-120b",
        think=_reasoning_or_level,
        price_provider="together",
    ),
    ServerFacts(
        name="cerebras",
        label="Cerebras",
        source="https://inference-docs.cerebras.ai/capabilities/reasoning",
        base_url="https://api.cerebras.ai/v1",
        hosts=("api.cerebras.ai",),
        key_variables=("CEREBRAS_API_KEY",),
        key_prefixes=("csk-",),
        default_model="gpt-oss-120b",
        max_tokens="max_completion_tokens",
        price_provider="cerebras",
    ),
    ServerFacts(
        name="fireworks",
        label="Fireworks AI",
        source="https://docs.fireworks.ai/guides/reasoning",
        base_url="https://api.fireworks.ai/inference/v1",
        hosts=("api.fireworks.ai",),
        key_variables=("FIREWORKS_API_KEY",),
        key_prefixes=("fw_",),
        default_model="accounts/fireworks/models/gpt-oss-120b",
        price_provider="fireworks",
    ),
    ServerFacts(
        name="moonshot",
        label="Moonshot AI",
        source="https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model",
        base_url="https://api.moonshot.ai/v1",
        hosts=("api.moonshot.ai", "api.moonshot.cn"),
        key_variables=("MOONSHOT_API_KEY",),
        default_model="kimi-k2.6",
        max_tokens="max_completion_tokens",
        think=_thinking_or_level,
        # "thinking is enabled but reasoning_content is missing in assistant tool call message":
        # https://github.com/continuedev/continue/issues/11600
        reasoning_required="reasoning_content",
        # Ids such as functions.rows:0: https://github.com/MoonshotAI/Kimi-K2/blob/main/docs/tool_call_guidance.md
        call_ids="own",
        price_provider="moonshotai",
    ),
    ServerFacts(
        name="qwen",
        label="Alibaba Cloud Model Studio",
        source="https://www.alibabacloud.com/help/en/model-studio/deep-thinking",
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        hosts=(
            "dashscope-intl.aliyuncs.com",
            "dashscope-us.aliyuncs.com",
            "dashscope.aliyuncs.com",
            ".dashscope.aliyuncs.com",
        ),
        key_variables=("DASHSCOPE_API_KEY",),
        think=_enable_thinking,
        price_provider="",
    ),
    ServerFacts(
        name="zai",
        label="Z.AI",
        source="https://docs.z.ai/guides/develop/openai/python",
        base_url="https://api.z.ai/api/paas/v4",
        hosts=("api.z.ai",),
        key_variables=("ZAI_API_KEY",),
        default_model="glm-5.3-flash",
        think=_thinking,
        price_provider="zai",
    ),
    ServerFacts(
        name="nvidia",
        label="NVIDIA",
        source="https://build.nvidia.com/z-ai/glm5/modelcard",
        base_url="https://integrate.api.nvidia.com/v1",
        hosts=("integrate.api.nvidia.com",),
        key_variables=("NVIDIA_API_KEY",),
        key_prefixes=("nvapi-",),
        think=_template,
        price_provider="",
    ),
    ServerFacts(
        name="huggingface",
        label="Hugging Face",
        source="https://huggingface.co/docs/inference-providers/tasks/chat-completion",
        base_url="https://router.huggingface.co/v1",
        hosts=("router.huggingface.co",),
        key_variables=("HF_TOKEN",),
        key_prefixes=("hf_",),
        price_provider="",
    ),
    ServerFacts(
        name="github",
        label="GitHub Models",
        source="https://docs.github.com/en/rest/models/inference",
        base_url="https://models.github.ai/inference",
        hosts=("models.github.ai",),
        key_variables=("GITHUB_TOKEN",),
        key_prefixes=("ghp_", "gho_", "ghu_", "ghs_", "github_pat_"),
        price_provider="",
    ),
)

_LOCAL: Final = (
    ServerFacts(
        name="lmstudio",
        label="LM Studio",
        source="https://lmstudio.ai/docs/developer/openai-compat",
        base_url="http://127.0.0.1:1234/v1",
        key_variables=("LM_API_TOKEN",),
        address_variable="LM_STUDIO_API_BASE",
        needs_key=False,
        price_provider="",
    ),
    ServerFacts(
        name="llamacpp",
        label="llama.cpp",
        source="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        base_url="http://127.0.0.1:8080/v1",
        key_variables=("LLAMA_API_KEY",),
        needs_key=False,
        think=_template,
        price_provider="",
    ),
    ServerFacts(
        name="vllm",
        label="vLLM",
        source="https://docs.vllm.ai/en/stable/features/reasoning_outputs/",
        base_url="http://127.0.0.1:8000/v1",
        key_variables=("VLLM_API_KEY",),
        needs_key=False,
        think=_template,
        price_provider="",
    ),
    ServerFacts(
        name="sglang",
        label="SGLang",
        source="https://docs.sglang.io/docs/advanced_features/separate_reasoning",
        base_url="http://127.0.0.1:30000/v1",
        needs_key=False,
        think=_template,
        price_provider="",
    ),
    ServerFacts(
        name="litellm",
        label="The LiteLLM proxy",
        source="https://docs.litellm.ai/docs/providers/litellm_proxy",
        base_url="http://127.0.0.1:4000/v1",
        key_variables=("LITELLM_PROXY_API_KEY",),
        address_variable="LITELLM_PROXY_API_BASE",
        needs_key=False,
        price_provider="",
    ),
)

SERVERS: Mapping[str, ServerFacts] = {row.name: row for row in (OPENAI, *_HOSTED, *_LOCAL)}
"""The rows by their names."""


def facts_of(name: str | None, url: str) -> ServerFacts:
    """Return the facts about a server.

    Args:
        name: the provider that the user named; ``"openai"`` stands for any server that speaks its API.
        url: its address.
    """
    if name is not None and name in SERVERS and name != OPENAI.name:
        return SERVERS[name]
    return next((row for row in SERVERS.values() if row.is_at(url)), UNKNOWN)

"""`CreateAgent`: where settings, provider, tools, history and recorder meet."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, NoReturn, TypeAlias

from .agent.agent import Agent
from .agent.chat import ChatWithAgentUseCase
from .agent.config import check_tool_choice, validate_config
from .agent.history import History
from .agent.misplaced import hide_misplaced, misplaced_error
from .agent.promises import check_provider, listed_models
from .agent.response import StreamingResponseDTO
from .agent.settings import SETTINGS, AgentSettings, check_arguments, select
from .batch.pool import RowAgent
from .builtin_tools import BUILTIN_TOOLS, is_stock_builtin
from .core.messages import Message, MessageContent
from .core.preview import RequestPreview
from .core.provider import ChatRepository
from .core.records import CallRecord
from .errors import (
    ConfigurationError,
    TalkFileError,
    UnknownConfigKeyError,
    UnknownProviderError,
    UnsupportedConfigError,
)
from .metrics import MetricsRecorder
from .metrics import recorder as notebook_recorder
from .providers.registry import find_provider, is_provider, keys_in_environment
from .providers.selection import check_model, connect, is_new_message, split_model
from .redaction import ApiKey, as_api_key, as_secret, as_secret_values
from .tools.approval import Approver
from .tools.executor import ToolExecutor
from .tools.tool import BaseTool, resolve_tools

if TYPE_CHECKING:
    import pandas as pd

    from .batch.batch import Batch
    from .batch.pool import OnError

__all__ = ["CreateAgent", "ToolLike"]

ToolLike: TypeAlias = BaseTool | type[BaseTool] | Callable[..., Any] | str
"""A tool, its class, a function that becomes one, or the name of a built-in."""

_agent_numbers = itertools.count(1)
"""Numbers for the names of agents that the user does not name."""


class CreateAgent:
    """An agent: a model, its instructions, its tools and the conversation so far.

    Args:
        provider: ``"openai"`` (and every compatible server, with ``base_url``), ``"ollama"``, ``"demo"``, a server
            of ``docs/servers.md`` such as ``"gemini"``, ``"azure"`` or ``"vllm"``, the name of a provider from
            another package, or a `ChatRepository` object. With neither provider nor model: what ``%agent use`` or
            the environment variable ``CREATEAGENTS_NB_MODEL`` says, else OpenAI when its key is set, else a local
            Ollama that answers, else the one server whose key is set, else the demo provider; one line says which.
        model: the provider's name for it; ``"openai:gpt-6-luna"`` names both. ``"gemini:…"`` does where that
            server's key is set: ``"mistral:7b"`` may be a model of Ollama's. Default: the provider's.
        name: shown in the recorder; default ``agent-1``, ``agent-2``…
        instructions: the system message; default none.
        config: options of each request: ``temperature``, ``max_tokens``, ``top_p``, ``top_k``, ``seed``, ``stop``,
            ``think`` (True, False or a level), ``num_ctx`` (tokens), ``stream`` (default True), ``extra`` (a dict
            passed to the provider as it is).
        tools: `BaseTool` objects, functions, or names of built-ins such as ``"currentdate"``.
        history_max_size: messages kept between turns; 0 for no memory. Default None: as many as the model's
            context has room for, where its size is known (a published model, or a server that says it), else 20.
            If a server finds a conversation too long, the oldest turns are left out, and one line says so.
        max_tool_result_chars: limit for the text of a tool's result that is sent to the model; a note follows text
            that is cut.
        base_url: of a compatible server; ``"unix:///run/model.sock"`` for one on a Unix socket.
        api_key: default: the provider's environment variable. Never shown, logged or saved. Or a function, sync or
            async, that returns one, for tokens that expire, such as azure-identity's
            ``get_bearer_token_provider(…)``: each request calls it, and waits ``timeout_s`` for it, at most 60 s.
        headers: sent with every request, in place of ours of the same name; None as a value removes one of ours.
            Values under names such as ``X-Api-Key`` are masked like keys. Not with ``client``.
        query: appended to every address, as in ``{"api-version": "2024-10-21"}``. Not with ``client``.
        client: an ``openai.AsyncOpenAI``, ``openai.AsyncAzureOpenAI`` or ``ollama.AsyncClient`` of your own, with
            its key, address, timeout and retries; it is never closed.
        timeout_s: how long no byte may arrive, in seconds; not with ``client``.
        max_retries: of a request that was not answered; not with a ``client`` that has retries of its own.
        max_tool_rounds: how often tools run in one turn before it ends with status ``limit``.
        recorder: where calls are recorded; default `createagents_nb.recorder`.
        remote_images: True shows the http and https images of an answer; default False: each is a link. A page
            loads images without a click, so a model that was tricked can send what it knows in an address: use it
            only with models, tools and data that you trust.
        approve: decides on calls of tools with ``requires_approval=True``. Sync (it runs in a thread) or async; it
            is given an `ApprovalRequest` with ``tool``, ``arguments``… True approves, a dict approves with these
            arguments, False rejects, a str rejects and tells the model why; so do `Approval.approve` and
            `Approval.reject`. An exception is a rejection. Default: the buttons in the cell; without them
            (headless, a terminal, inside ``%%time``) the call is rejected.
        approval_timeout_s: seconds until a call that was not decided is rejected.

    Raises:
        UnknownProviderError, UnknownConfigKeyError, UnsupportedConfigError, MissingKeyError, InvalidToolError,
        UnknownToolError, UnknownArgumentError, ConfigurationError: something is wrong with an argument; nothing is
        sent.

    Example:
        >>> agent = CreateAgent("openai", "gpt-6-luna", tools=["currentdate"])
        >>> text = await (await agent.chat("What day is it?"))
    """

    @hide_misplaced
    def __init__(
        self,
        provider: str | ChatRepository | None = None,
        model: str | None = None,
        *,
        name: str | None = None,
        instructions: str | None = None,
        config: Mapping[str, Any] | None = None,
        tools: Iterable[ToolLike] | None = None,
        history_max_size: int | None = None,
        max_tool_result_chars: int = 100_000,
        base_url: str | None = None,
        api_key: ApiKey | None = None,
        headers: Mapping[str, str | None] | None = None,
        query: Mapping[str, str] | None = None,
        client: Any = None,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        max_tool_rounds: int = 20,
        recorder: MetricsRecorder | None = None,
        remote_images: bool = False,
        approve: Approver | None = None,
        approval_timeout_s: float = 300.0,
        **misplaced: Never,
    ) -> None:
        api_key, base_url = as_api_key(api_key), as_secret(base_url)
        headers, query = as_secret_values(headers), as_secret_values(query)
        if misplaced:
            names = list(misplaced)
            misplaced.clear()  # a traceback shows this frame, and one may be a key
            raise misplaced_error(names, SETTINGS)
        arguments = check_arguments(locals())
        if not max_tool_result_chars:
            raise ConfigurationError("max_tool_result_chars must be 1 or more, not 0")
        if recorder is not None and not isinstance(recorder, MetricsRecorder):
            raise ConfigurationError(f"recorder must be a MetricsRecorder(), not {recorder!r}")
        connection = connect(provider, model, limits=select(arguments, "limit"), **select(arguments, "bound"))
        check_provider(connection.repository)
        self._repository = connection.repository
        self._settings = AgentSettings(
            **arguments
            | {
                "provider": connection.provider,
                "model": connection.model,
                "base_url": connection.base_url,
                "name": name or f"agent-{next(_agent_numbers)}",
                "tools": () if tools is None else resolve_tools(tools, BUILTIN_TOOLS),
                "config": _checked_config(config, connection.repository),
            }
        )
        check_tool_choice(self._settings.config, self._settings.tools)
        self._agent = Agent(**self._settings.shared(), history=History(history_max_size))
        self._recorder = notebook_recorder if recorder is None else recorder
        self._executor = ToolExecutor(max_result_chars=max_tool_result_chars)
        self._is_named = name is not None
        self._responses: list[StreamingResponseDTO] = []
        self._batches: set[Batch] = set()
        self._last_map: pd.DataFrame | None = None
        self._call_ids: list[str] = []
        if connection.why and is_new_message(connection.why):
            # stderr would be a red box in a notebook.
            print(connection.why, file=sys.stdout if "ipykernel" in sys.modules else sys.stderr)

    # ── turns ────────────────────────────────────────────────────────────────────────────────────────

    async def chat(self, message: MessageContent) -> StreamingResponseDTO:
        """Start a turn and return its response at once, while it streams.

        Several turns may run at the same time: each sees the history as it was when it started.

        Raises:
            InvalidMessageError: the message is empty or not a string; nothing was sent.
        """
        use_case = ChatWithAgentUseCase(self._repository, executor=self._executor, sink=self._recorder)
        response = use_case.start(self._agent, message)
        self._call_ids.append(response.record.call_id)
        # In place: variants share the list.
        self._responses[:] = [*(earlier for earlier in self._responses if not earlier.done), response]
        await response.begin()
        return response

    async def ask(self, message: MessageContent) -> str:
        """Ask, and return the whole answer as text: `chat` in one step.

        Raises:
            InvalidMessageError: as `chat`.
            CreateAgentsError: the turn failed.

        Example:
            >>> text = await agent.ask("What day is it?")
        """
        return await (await self.chat(message))

    def preview(self, message: MessageContent) -> RequestPreview:
        """Show what ``chat(message)`` would send now, keys masked; nothing is sent or recorded.

        Raises:
            InvalidMessageError: as `chat`.

        Example:
            >>> agent.preview("What day is it?").body["messages"][-1]
            {'role': 'user', 'content': 'What day is it?'}
        """
        return ChatWithAgentUseCase(self._repository).preview(self._agent, message)

    async def map(
        self,
        data: Any,
        template: str | None = None,
        *,
        concurrency: int = 20,
        rpm: float | None = None,
        tpm: float | None = None,
        on_error: OnError = "keep",
        resume: bool = False,
        progress: bool = True,
        client: Any = None,
    ) -> pd.DataFrame:
        """Ask one prompt for each row, many at a time, and return the answers as a frame with the data's index.

        Rows are independent, and nothing enters the history: each has the agent's instructions and tools, and a
        prompt. Every row is a call in the recorder and counts for its budget.

        Args:
            data: a Series, list, tuple, Index or array of prompts; or, with ``template``, of values, or a
                DataFrame. A row whose prompt is NA, empty or not a string is an ``error``; nothing is sent for it.
            template: the prompt, with ``{{column}}`` in place of a row's value; ``{{value}}`` for data without
                columns. Single braces are left alone; ``\\{{`` is a literal ``{{``. Values become ``str``, and are
                not shortened.
            concurrency: limit for the rows that run at the same time. At a server on this machine or in a private
                network, above 8, few run at first and more while it answers as fast; never more than its slots,
                where it says how many (llama.cpp).
            rpm: limit for requests per minute, spread evenly; a row with tools takes several. None for no limit.
            tpm: limit for tokens per minute, input and output, as the server counts them; at first an estimate.
            on_error: ``"keep"``: a row that fails has its error in the frame, and the others go on. ``"stop"``:
                the first failure stops the rest, and its error is raised.
            resume: take answers from the recorder: of calls with exactly the same prompt that ended ``ok``, with
                the same provider and model (and name, if the agent was given one). Prompts that were masked or
                changed by ``redact=`` when they were recorded are not found, and are sent again.
            progress: show a progress bar.
            client: a ``dask.distributed.Client``, whose workers ask, with keys from their own environment. Tools
                travel by cloudpickle; ``concurrency``, ``rpm`` and ``tpm`` are divided among the workers. Records
                arrive with each chunk of rows that is done.

        Returns:
            Columns ``answer`` (string; NA unless ``ok``), ``status`` (category: ``ok``, ``cancelled``, ``error``,
            ``limit`` for an answer that was cut off or had too many rounds of tools, or ``not run`` for a row that
            did not begin), ``error`` (string), ``input_tokens``, ``output_tokens`` (Int64), ``cost_usd`` (Float64,
            US dollars), ``latency_s`` (Float64, seconds; waiting for ``rpm`` and ``tpm`` before the row's first
            request does not count), ``call_id`` (string; the row in ``recorder.calls``), ``finish_reason``
            (string; why the model stopped, in the server's words). NA where unknown; dtypes are the same
            when there are no rows.

        After a refusal (429), all rows wait for as long as the server asks (``Retry-After``; else 1, 2, 4… up to
        60 s), and the row is sent again. After eight such pauses without an answer between them, or when the
        recorder's budget is spent, the rows that were refused have failed and the rest are ``not run``.

        If it is stopped (the notebook's ■, or the task cancelled), rows that run are settled and
        ``CancelledError`` is raised; `last_map` has what is done, as after ``on_error="stop"``.

        Raises:
            ConfigurationError: an argument, a column of the template, or, with ``client``, an agent that was given
                its key in code: nothing was sent. Also a worker that has no key, or cannot load the tools.
            CreateAgentsError: with ``on_error="stop"``, the error of the first row that failed, with a note that
                names the row.

        Example:
            >>> answers = await agent.map(df, "Is this review positive? {{review}}", concurrency=50, rpm=500)
            >>> df.assign(answer=answers["answer"])
        """
        from .batch.batch import Batch
        from .batch.pool import Options

        options = Options(concurrency, rpm, tpm, on_error, resume, progress)
        asked = self._call_ids.append
        batch = Batch(self._row_agent(), self._recorder, data, template, options, client=client, asked=asked)
        self._batches.add(batch)
        try:
            return await batch.run()
        finally:
            self._batches.discard(batch)
            self._last_map = batch.frame().copy(deep=False)  # the user may change the one returned

    @property
    def last_map(self) -> pd.DataFrame | None:
        """The frame of the last `map`, also if it was stopped or failed; None before the first."""
        return self._last_map

    def _row_agent(self) -> RowAgent:
        agent = replace(self._agent, history=History(0), turn_numbers=itertools.count())
        agent.notices = self._agent.notices
        return RowAgent(
            agent=agent,
            repository=self._repository.without_retries(),
            executor=self._executor,
            is_named=self._is_named,
            max_retries=self._max_row_retries,
            settings=self._settings,
        )

    @property
    def _max_row_retries(self) -> int:
        """How often a batch sends a request again: no more often than a client of the user's would."""
        own = getattr(self._settings.client, "max_retries", None)
        max_retries = self._settings.max_retries
        return min(own, max_retries) if isinstance(own, int) else max_retries

    async def aclose(self) -> None:
        """Stop the turns that are running, those of `map` too. The agent can be used again."""
        running = [response for response in self._responses if not response.done]
        for response in running:
            response.cancel()
        for response in running:
            await response.wait()
        for batch in list(self._batches):
            await batch.stop()

    async def __aenter__(self) -> CreateAgent:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # ── settings and history ─────────────────────────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        return self._agent.name

    @property
    def provider(self) -> str:
        return self._repository.provider

    @property
    def model(self) -> str:
        return self._agent.model

    @property
    def remote_images(self) -> bool:
        """Whether a notebook may load the images that an answer links to."""
        return self._agent.remote_images

    @property
    def history(self) -> tuple[Message, ...]:
        """The conversation, oldest first, without the instructions.

        The next turn sees it, but for messages with ``left_out``: those of turns that the server refused as too
        long, filtered or invalid.
        """
        return self._agent.history.messages

    def clear_history(self) -> None:
        """Forget the conversation; turns that are running will still be added when they end."""
        self._agent.history.clear()

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the agent and its conversation to a JSON file; see `load`.

        The file has the provider, model, name, instructions, config, limits, ``base_url``, the names of the tools,
        and the `history`, without turns that are still running. It has no key: what looks like one in a setting is
        ``***`` there, and ``headers`` and ``query``, which may hold one, are left out. Messages are yours and are
        written as they are, with images, files and keys that somebody wrote. An existing file is replaced once the
        new one is complete; only its owner may read a new one.

        Returns:
            The path.

        Raises:
            TalkFileError: it cannot be written there, or would have more than 64 MiB.

        Example:
            >>> agent.save("talk.json")
            >>> agent = CreateAgent.load("talk.json", tools=[rows])
        """
        from .agent.conversation import Conversation
        from .agent.conversation_file import write_conversation

        talk = Conversation.of(self._settings, self._agent.history, is_stock_builtin)
        secrets = (self._settings.api_key, *keys_in_environment())
        return write_conversation(path, talk.without_keys(*(key for key in secrets if isinstance(key, str))))

    @classmethod
    def load(
        cls, path: str | PathLike[str], *, tools: Iterable[ToolLike] | None = None, **options: Any
    ) -> CreateAgent:
        """The agent of a file that `save` wrote, with its conversation.

        Nothing in the file is run, and it is read completely or refused.

        Args:
            tools: those that the agent had, except built-ins as they come; any others are added.
            options: arguments of `CreateAgent`, in place of the file's: ``api_key`` (else the provider's
                environment variable), ``recorder``, ``config``… ``headers`` and ``query`` are not in the file:
                give them again. ``provider`` or ``client`` must be given again if it was an object, unless an
                installed provider has its name.

        Raises:
            TalkFileError: there is no such file, or it is broken or from a newer version; the message says where.
                Or its provider is not installed here.
            ConfigurationError: a tool is missing (it is named); a key was left out of ``config``; ``base_url`` is
                neither on this machine nor what the environment names, and must be given, for your key is sent
                there; and as the constructor.

        Example:
            >>> agent = CreateAgent.load("talk.json", tools=[rows])
            >>> await agent.chat("Where were we?")
        """
        from .agent.conversation_file import read_conversation

        talk = read_conversation(path)
        is_known = is_provider(talk.provider)
        address = find_provider(talk.provider).address if is_known else None
        arguments = talk.arguments(options, address=address)
        if options.get("client") is not None:  # it has its own limits
            for name in select(SETTINGS, "limit").keys() - options.keys():
                arguments.pop(name, None)
        given = talk.tools_with(resolve_tools(tools, BUILTIN_TOOLS), BUILTIN_TOOLS)
        try:
            agent = cls(**arguments, tools=given)
        except (UnknownProviderError, UnknownConfigKeyError, UnsupportedConfigError) as error:
            if options.keys() & {"provider", "model", "config", "client"}:
                raise
            hint = "" if is_known else ". If it was an object, give it again: CreateAgent.load(…, provider=…)"
            raise TalkFileError(f"{str(path)!r} cannot be loaded as a talk: {error}{hint}") from error
        started = agent._agent.history.restore(talk.turns)
        agent._agent.turn_numbers = itertools.count(started)
        return agent

    async def models(self) -> list[str]:
        """Names of the models that the provider offers.

        Raises:
            ProviderError: it cannot be asked.
        """
        return await listed_models(self._repository)

    def get_configs(self) -> dict[str, Any]:
        """How the agent is set up, without its key: the arguments of `CreateAgent` that are data, by their names.

        ``tools`` are names. ``base_url`` is None for the provider's default. ``headers`` and ``query`` are listed
        if they were given, with ``***`` for keys.
        """
        return self._settings.listed()

    def get_all_available_tools(self) -> dict[str, str]:
        """Names and descriptions of all tools: those of this agent, and the built-in ones."""
        return self.get_system_available_tools() | {tool.name: tool.description for tool in self._agent.tools}

    def get_system_available_tools(self) -> dict[str, str]:
        """Names and descriptions of the built-in tools."""
        return {name: make().description for name, make in BUILTIN_TOOLS.items()}

    def variant(
        self,
        provider: str | ChatRepository | None = None,
        model: str | None = None,
        *,
        tools: Iterable[ToolLike] | None = None,
        config: Mapping[str, Any] | None = None,
        keep_history: bool = True,
    ) -> CreateAgent:
        """An agent like this one, but for what is given; it shares the history unless ``keep_history`` is False.

        Args:
            tools: in addition to this agent's; one of the same name replaces it.
            config: in addition to this agent's.

        Raises:
            ConfigurationError: as the constructor.
        """
        settings, repository = self._settings, self._repository
        if config is not None and not isinstance(config, Mapping):
            raise UnknownConfigKeyError(f"config must be a dict, not {type(config).__name__}")
        if not isinstance(provider, ChatRepository):
            provider, model = split_model(provider, model)
            if provider is None:
                check_model(self.provider, model, settings.base_url)
        if provider in (None, self.provider):
            changes: dict[str, Any] = {"model": model or settings.model}
        else:
            connection = connect(provider, model, limits=settings.select("limit"))
            repository = connection.repository
            changes = dict.fromkeys(settings.select("bound"))
            changes |= {name: getattr(connection, name) for name in ("provider", "model", "base_url")}
        extra = resolve_tools(tools, BUILTIN_TOOLS)
        replaced = {tool.name for tool in extra}
        history = self._agent.history if keep_history else History(0)
        settings = replace(
            settings,
            **changes,
            tools=(*(tool for tool in settings.tools if tool.name not in replaced), *extra),
            config=_checked_config({**settings.config, **(config or {})}, repository),
            history_max_size=history.max_size,
        )
        check_tool_choice(settings.config, settings.tools)
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__ | {
            "_settings": settings,
            "_agent": Agent(**settings.shared(), history=history, turn_numbers=self._agent.turn_numbers),
            "_repository": repository,
            "_last_map": None,
        }
        other._agent.notices = self._agent.notices
        return other

    # ── records ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def metrics(self) -> pd.DataFrame:
        """This agent's rows of ``recorder.calls``, one a call."""
        frame = self._recorder.calls
        return frame[frame["call_id"].isin(self._call_ids)].reset_index(drop=True)

    @property
    def tool_calls(self) -> pd.DataFrame:
        """This agent's rows of ``recorder.tools``, one a tool execution."""
        frame = self._recorder.tools
        return frame[frame["call_id"].isin(self._call_ids)].reset_index(drop=True)

    def get_metrics(self) -> list[CallRecord]:
        """This agent's calls as records, oldest first."""
        mine = set(self._call_ids)
        return [record for record in self._recorder.call_records if record.call_id in mine]

    def export_metrics_json(self, path: str | PathLike[str] | None = None) -> str:
        """This agent's calls, requests and tools as JSON; also written to ``path`` when given.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        from .metrics import export

        return export.to_json(self._recorder, path, call_ids=self._call_ids)

    def export_metrics_prometheus(self, path: str | PathLike[str] | None = None) -> str:
        """This agent's totals in Prometheus' text format; also written to ``path`` when given.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        from .metrics import export

        return export.to_prometheus(self._recorder, path, call_ids=self._call_ids)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise ConfigurationError(
            "An agent is not copied or pickled: it holds connections, and maybe a key. agent.variant() is another "
            "like it; elsewhere, make one with CreateAgent(…)"
        )

    def __repr__(self) -> str:
        agent: Agent | None = getattr(self, "_agent", None)
        if agent is None:  # a traceback of `__init__` shows its locals
            return f"<{type(self).__name__}, not made>"
        tools = f", tools=[{', '.join(tool.name for tool in agent.tools)}]" if agent.tools else ""
        return f"<CreateAgent {agent.name}: {self.provider}:{agent.model}{tools}, {len(agent.history)} messages>"


def _checked_config(config: Mapping[str, Any] | None, repository: ChatRepository) -> dict[str, Any]:
    checked = validate_config(config, provider=repository.provider, unsupported=repository.unsupported_config)
    repository.check_config(checked)
    return checked


def reset() -> None:
    """Number unnamed agents from 1 again."""
    global _agent_numbers
    _agent_numbers = itertools.count(1)

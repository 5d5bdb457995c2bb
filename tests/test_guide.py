"""Every pattern and pitfall of the asynchronous guide as a program: only the model and the address are ours."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest
from family import Reply, ScriptedServer, run_script

from createagents_nb import CreateAgent, demo

Run = Callable[[str], str]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's address is the demo server of this process."""
    monkeypatch.setenv("OPENAI_BASE_URL", demo.start().openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")


@pytest.fixture
def run(environment: None, capsys: pytest.CaptureFixture[str]) -> Run:
    """What a program prints; it must end well and without a word on stderr."""

    def run(program: str) -> str:
        exec(textwrap.dedent(program), {"__name__": "__main__"})
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run


@pytest.fixture
def run_alone(environment: None) -> Run:
    """As ``run``, in a process of its own: printing a response in a running loop patches asyncio."""

    def run(program: str) -> str:
        done = run_script(program)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    return run


# ── patterns ─────────────────────────────────────────────────────────────────────────────────────────


def test_pattern_1_print_of_a_response_prints_the_whole_answer(run_alone: Run) -> None:
    printed = run_alone("""
        import asyncio

        async def simple_chat():
            from createagents_nb import CreateAgent

            agent = CreateAgent(provider="openai", model="demo-instant")
            response = await agent.chat("Olá")
            print(response)

        asyncio.run(simple_chat())
    """)
    assert "> Olá\n" in printed
    assert "StreamingResponseDTO" not in printed


def test_pattern_2_async_for_prints_the_tokens_as_they_come(run: Run) -> None:
    printed = run("""
        import asyncio

        async def streaming_chat():
            from createagents_nb import CreateAgent

            agent = CreateAgent(provider="openai", model="demo-instant")
            response = await agent.chat("Conte uma história")

            tokens = []
            async for token in response:
                tokens.append(token)
                print(token, end="", flush=True)
            print()
            assert len(tokens) > 20
            assert "".join(tokens) == await response

        asyncio.run(streaming_chat())
    """)
    assert "> Conte uma história\n" in printed
    assert "## " in printed


def test_pattern_3_agents_at_the_same_time(run_alone: Run) -> None:
    printed = run_alone("""
        import asyncio

        async def concurrent_chats():
            from createagents_nb import CreateAgent

            agent1 = CreateAgent(provider="openai", model="demo-instant")
            agent2 = CreateAgent(provider="openai", model="demo-instant")
            results = await asyncio.gather(
                agent1.chat("Pergunta 1"),
                agent2.chat("Pergunta 2"),
            )
            print(results[0])
            print("-----")
            print(results[1])

        asyncio.run(concurrent_chats())
    """)
    first, second = printed.split("-----\n")
    assert "> Pergunta 1\n" in first
    assert "> Pergunta 2\n" in second


def test_pattern_4_an_asynchronous_tool(run: Run, server: ScriptedServer) -> None:
    server.on("/dados", Reply([b"37 garcas, 12 ibis"], headers={"content-type": "text/plain"}))
    printed = run(f"""
        from createagents_nb import BaseTool, CreateAgent
        import asyncio
        import aiohttp

        class AsyncWebTool(BaseTool):
            name = "async_web_fetch"
            description = "Busca dados da web assincronamente"
            parameters = {{
                "type": "object",
                "properties": {{
                    "url": {{"type": "string", "description": "URL to fetch"}}
                }},
                "required": ["url"],
            }}

            async def execute(self, url: str) -> str:
                async with aiohttp.ClientSession() as session:
                    async with session.get(url) as response:
                        return await response.text()

        async def main():
            agent = CreateAgent(provider="openai", model="demo-instant", tools=[AsyncWebTool()])
            response = await agent.chat("Busque dados de {server.url}/dados")
            print(await response)

        asyncio.run(main())
    """)
    assert "37 garcas, 12 ibis" in printed
    assert [request.path for request in server.requests] == ["/dados"]


def test_a_synchronous_tool_works_as_well(run: Run) -> None:
    printed = run("""
        import asyncio
        from createagents_nb import BaseTool, CreateAgent

        class StockTool(BaseTool):
            name = "stock"
            description = "Estoque de um produto"
            parameters = {
                "type": "object",
                "properties": {"produto": {"type": "string", "description": "nome do produto"}},
                "required": ["produto"],
            }

            def execute(self, produto: str) -> str:
                return f"12 de {produto}"

        async def main():
            agent = CreateAgent(provider="openai", model="demo-instant", tools=[StockTool()])
            print(await (await agent.chat('Qual é o estoque do produto "caneta"?')))

        asyncio.run(main())
    """)
    assert "12 de caneta" in printed


def test_what_day_is_it_with_a_built_in_tool(run: Run) -> None:
    printed = run("""
        import asyncio
        from createagents_nb import CreateAgent

        async def main():
            agent = CreateAgent(provider="openai", model="demo-instant", tools=["currentdate"])
            response = await agent.chat("Que dia é hoje?")
            print(await response)
            print("tools:", [record.status for record in response.tools])

        asyncio.run(main())
    """)
    assert printed.endswith("tools: ['ok']\n")


def test_several_chats_on_one_agent(run: Run) -> None:
    """The guide's "Q1, Q2, Q3": all three have been started before any of them has ended."""
    printed = run("""
        import asyncio
        from createagents_nb import CreateAgent

        async def concurrent():
            agent = CreateAgent(provider="openai", model="demo")
            results = await asyncio.gather(agent.chat("Q1"), agent.chat("Q2"), agent.chat("Q3"))
            print([response.status for response in results])
            for response in results:
                await anext(aiter(response))
            print([response.status for response in results])
            await agent.aclose()

        asyncio.run(concurrent())
    """)
    assert printed == "['running', 'running', 'running']\n" * 2


def test_the_executor_runs_asynchronous_and_synchronous_tools(run: Run) -> None:
    printed = run("""
        import asyncio
        from createagents_nb import BaseTool, ToolExecutor

        class Sync(BaseTool):
            name = "sync"
            description = "Twice."

            def execute(self, x):
                return 2 * x

        class Async(Sync):
            async def execute(self, x):
                return 3 * x

        class Fails(Sync):
            def execute(self, x):
                raise ValueError("no")

        async def main():
            executor = ToolExecutor()
            for tool in (Sync(), Async(), Fails()):
                outcome = await executor.execute(tool, {"x": 7})
                print(outcome.success, outcome.result, outcome.error)

        asyncio.run(main())
    """)
    assert printed.splitlines() == ["True 14 None", "True 21 None", "False None ValueError: no"]


def test_the_adapters_chat_is_an_asynchronous_generator(run: Run) -> None:
    printed = run("""
        import asyncio
        from createagents_nb import Agent, ChatRepository, OpenAIChatAdapter

        async def main():
            adapter = OpenAIChatAdapter()
            assert isinstance(adapter, ChatRepository)
            async for token in adapter.chat(Agent(name="a", model="demo-instant"), "Olá"):
                print(token, end="", flush=True)

        asyncio.run(main())
    """)
    assert "> Olá\n" in printed


def test_the_handlers_take_client_model_and_messages(run: Run) -> None:
    printed = run("""
        import asyncio
        from openai import AsyncOpenAI
        from createagents_nb import OpenAIHandler, OpenAIStreamHandler

        async def main():
            messages = [{"role": "user", "content": "Olá"}]
            async with AsyncOpenAI() as client:
                text = ""
                async for token in OpenAIStreamHandler().handle_streaming(client, "demo-instant", messages):
                    text += token
                whole = await OpenAIHandler().handle_non_streaming(client, "demo-instant", messages)
            assert text == whole
            print(text)

        asyncio.run(main())
    """)
    assert "> Olá\n" in printed


# ── pitfalls ─────────────────────────────────────────────────────────────────────────────────────────


def test_pitfall_1_a_forgotten_await_shows_a_coroutine_and_sends_nothing(run: Run) -> None:
    with pytest.warns(RuntimeWarning, match=r"CreateAgent\.chat' was never awaited"):
        printed = run("""
            import asyncio
            from createagents_nb import CreateAgent

            async def main():
                agent = CreateAgent(provider="openai", model="demo-instant")
                response = agent.chat("mensagem")
                print(response)
                print(len(agent.get_metrics()))
                response = await agent.chat("mensagem")
                print("mensagem" in await response)

            asyncio.run(main())
        """)
    first, *rest = printed.splitlines()
    assert first.startswith("<coroutine object CreateAgent.chat at ")
    assert rest == ["0", "True"]


def test_pitfall_2_a_tool_that_blocks_does_not_block_the_loop(run: Run) -> None:
    """The tool waits for what only the loop can do: were it blocked, the tool would give up."""
    printed = run("""
        import asyncio, threading
        from createagents_nb import CreateAgent, tool

        begun, released = threading.Event(), threading.Event()

        @tool
        def launch() -> str:
            "Launches the rocket."
            begun.set()
            return "launched" if released.wait(20) else "blocked"

        async def main():
            agent = CreateAgent(provider="openai", model="demo-instant", tools=[launch])
            response = await agent.chat("Launch the rocket")
            await asyncio.to_thread(begun.wait, 20)
            asyncio.get_running_loop().call_soon(released.set)
            print(await response)

        asyncio.run(main())
    """)
    assert "`launched`" in printed


def test_pitfall_3_a_main_that_is_not_run_does_nothing(run: Run) -> None:
    program = """
        import asyncio
        from createagents_nb import CreateAgent

        async def main():
            agent = CreateAgent(provider="openai", model="demo-instant")
            response = await agent.chat("mensagem")
            print(await response)

    """
    with pytest.warns(RuntimeWarning, match="'main' was never awaited"):
        assert run(program + "    main()") == ""
    assert "> mensagem\n" in run(program + "    asyncio.run(main())")


def test_pitfall_4_awaiting_twice_gives_the_text_twice(run: Run) -> None:
    printed = run("""
        import asyncio
        from createagents_nb import CreateAgent

        async def main():
            agent = CreateAgent(provider="openai", model="demo-instant")
            response = await agent.chat("mensagem")
            text1 = await response
            text2 = await response
            print(bool(text1), text1 == text2)
            print("".join([token async for token in response]) == text1)
            print(len(agent.get_metrics()))

        asyncio.run(main())
    """)
    assert printed.splitlines() == ["True True", "True", "1"]


def test_errors_are_caught_with_try_and_except(run: Run) -> None:
    printed = run("""
        import asyncio
        from createagents_nb import CreateAgent, CreateAgentsError

        async def main():
            agent = CreateAgent(provider="openai", model="gpt-4")
            try:
                print(await (await agent.chat("mensagem")))
            except CreateAgentsError as error:
                print(type(error).__name__, "demo-instant" in str(error))

        asyncio.run(main())
    """)
    assert printed == "ModelNotFoundError True\n"


# ── testing ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.asyncio
@pytest.mark.usefixtures("environment")
async def test_chat() -> None:
    agent = CreateAgent(provider="openai", model="demo-instant")
    response = await agent.chat("Test message")
    text = await response
    assert isinstance(text, str)
    assert len(text) > 0


@pytest.mark.asyncio
@pytest.mark.usefixtures("environment")
async def test_streaming() -> None:
    agent = CreateAgent(provider="openai", model="demo-instant")
    response = await agent.chat("Test")

    tokens = []
    async for token in response:
        tokens.append(token)  # noqa: PERF401 - as the guide writes it

    assert len(tokens) > 0

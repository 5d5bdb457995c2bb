"""The synchronous bridge. What re-enters a running loop patches asyncio, so that is tested in other processes."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
from family import run_script

from createagents_nb import bridge

PRELUDE = """
import asyncio, gc, signal, sys, threading
from family import ScriptedProvider
from createagents_nb import Agent, ChatWithAgentUseCase, bridge
from createagents_nb.errors import ServerError

provider = ScriptedProvider()

async def ask(message="hello"):
    return await ChatWithAgentUseCase(provider).execute(Agent(name="a", model="m"), message)
"""


def output(script: str) -> list[str]:
    done = run_script(PRELUDE + script)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def test_without_a_loop_it_runs_one() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert bridge.run(answer()) == 42


def test_what_the_coroutine_raises_comes_through() -> None:
    async def fails() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        bridge.run(fails())


def test_in_a_thread_without_a_loop_it_runs_one() -> None:
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(bridge.run(asyncio.sleep(0, result="done"))))
    thread.start()
    thread.join(10)
    assert results == ["done"]


def test_importing_the_package_patches_nothing() -> None:
    assert output(
        "print(sorted({'nest_asyncio', 'nest_asyncio2'} & sys.modules.keys()), asyncio.run.__module__)"
    ) == ["[] asyncio.runners"]


def test_print_in_a_running_loop_prints_the_whole_answer() -> None:
    assert output("""
async def main():
    gate = asyncio.Event()
    provider.enqueue("Hello", gate, " there")
    response = await ask()
    asyncio.get_running_loop().call_later(0.01, gate.set)
    print(response)
    print(response)
    print(f"{response}|{await response}")

asyncio.run(main())
""") == ["Hello there", "Hello there", "Hello there|Hello there"]


def test_other_tasks_go_on_while_print_waits() -> None:
    assert output("""
async def main():
    gate = asyncio.Event()
    provider.enqueue("a", gate, "b")
    response = await ask()
    async def release():
        await asyncio.sleep(0.01)
        gate.set()
        return "released"
    other = asyncio.create_task(release())
    print(response)
    print(other.done(), await other)

asyncio.run(main())
""") == ["ab", "True released"]


@pytest.mark.parametrize("bridges", [1, 2])
def test_what_was_ready_in_the_same_step_of_the_loop_still_runs(bridges: int) -> None:
    """asyncio has counted it before; the first bridge of a loop is entered from asyncio's own step."""
    assert output(f"""
async def main():
    go = asyncio.Event()
    async def waiter(number):
        await go.wait()
        if number < {bridges}:
            bridge.run(asyncio.sleep(0.01))
        return number
    waiting = [asyncio.create_task(waiter(number)) for number in range(8)]
    await asyncio.sleep(0)
    go.set()
    print(await asyncio.gather(*waiting))

asyncio.run(main())
""") == ["[0, 1, 2, 3, 4, 5, 6, 7]"]


def test_str_of_a_failed_response_raises_its_error_in_a_running_loop_too() -> None:
    assert output("""
async def main():
    gate = asyncio.Event()
    provider.enqueue("a", gate, ServerError("broken"))
    response = await ask()
    asyncio.get_running_loop().call_later(0.01, gate.set)
    for _ in range(2):
        try:
            print(response)
        except ServerError as error:
            print("raised", error)

asyncio.run(main())
""") == ["raised broken", "raised broken"]


def test_once_patched_threads_and_later_loops_still_work() -> None:
    assert output("""
async def main():
    provider.enqueue("first")
    print(await ask())
    gate = asyncio.Event()
    provider.enqueue("sec", gate, "ond")
    response = await ask()
    printing = asyncio.create_task(asyncio.to_thread(print, response))
    await asyncio.sleep(0)
    gate.set()
    await printing
    return response

response = asyncio.run(main())
print(response)
print(bridge.run(asyncio.sleep(0, result="third")))
results = []
thread = threading.Thread(target=lambda: results.append(bridge.run(asyncio.sleep(0, result="fourth"))))
thread.start()
thread.join()
print(*results)
gc.collect()
""") == ["first", "second", "second", "third", "fourth"]


def test_inside_a_running_loop_a_result_and_an_error_come_back() -> None:
    assert output("""
async def fails():
    await asyncio.sleep(0)
    raise LookupError("gone")

async def main():
    print(bridge.run(asyncio.sleep(0, result="done")))
    try:
        bridge.run(fails())
    except LookupError as error:
        print("raised", error)
    print(len(asyncio.all_tasks()))

asyncio.run(main())
""") == ["done", "raised gone", "1"]


def test_an_interrupt_while_it_waits_lets_the_coroutine_settle_first() -> None:
    assert output("""
async def work():
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("settled")

async def main():
    asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGINT)
    try:
        bridge.run(work())
    except KeyboardInterrupt:
        print("interrupted", len(asyncio.all_tasks()))

asyncio.run(main())
""") == ["settled", "interrupted 1"]


def test_two_interrupts_in_a_row_are_one() -> None:
    assert output("""
async def work():
    try:
        await asyncio.Event().wait()
    finally:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        print("settled")

async def main():
    asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGINT)
    try:
        bridge.run(work())
    except KeyboardInterrupt:
        print("interrupted", len(asyncio.all_tasks()))

asyncio.run(main())
""") == ["settled", "interrupted 1"]


def test_an_interrupt_while_the_task_is_made_leaves_no_task() -> None:
    assert output("""
def interrupted(loop, coroutine, **options):
    loop.set_task_factory(None)
    signal.raise_signal(signal.SIGINT)
    return asyncio.Task(coroutine, loop=loop, **options)

async def main():
    asyncio.get_running_loop().set_task_factory(interrupted)
    try:
        bridge.run(asyncio.Event().wait())
    except KeyboardInterrupt:
        print("interrupted", len(asyncio.all_tasks()))

asyncio.run(main())
""") == ["interrupted 1"]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="a cancellation can be taken back from Python 3.13 on")
def test_who_cancels_the_task_that_blocks_stops_what_it_waits_for() -> None:
    assert output("""
async def main():
    provider.enqueue("a", asyncio.Event(), "never")
    response = await ask()
    try:
        async with asyncio.timeout(0.01):
            print(response)
    except TimeoutError:
        print(response.status, response.text, len(asyncio.all_tasks()))

asyncio.run(main())
""") == ["cancelled a 1"]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="a cancellation can be taken back from Python 3.13 on")
def test_a_cancellation_that_was_raised_is_not_raised_again() -> None:
    assert output("""
async def main():
    task = asyncio.current_task()
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    try:
        bridge.run(asyncio.Event().wait())
    except asyncio.CancelledError:
        print("cancelled")
    await asyncio.sleep(0)
    print("goes on")

asyncio.run(main())
""") == ["cancelled", "goes on"]

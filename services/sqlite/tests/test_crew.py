import asyncio
import threading

from tovuk_sqlite.crew import Crew


async def test_a_busy_account_leaves_threads_to_others() -> None:
    crew = Crew(4)
    release = threading.Event()
    greedy = [asyncio.create_task(crew.run("greedy", number, 1, release.wait)) for number in range(10)]
    async with asyncio.timeout(5):
        assert await crew.run("modest", "lane", 1, lambda: "answered") == "answered"
    release.set()
    await asyncio.gather(*greedy)
    await crew.close()


async def test_a_lane_runs_in_order_and_no_more_at_once_than_it_may() -> None:
    crew = Crew(4)
    running, seen, order = 0, 0, []
    lock = threading.Lock()

    def work(number: int) -> None:
        nonlocal running, seen
        with lock:
            running += 1
            seen = max(seen, running)
            order.append(number)
        threading.Event().wait(0.005)
        with lock:
            running -= 1

    await asyncio.gather(*(crew.run("account", "lane", 1, lambda number=number: work(number)) for number in range(10)))
    assert (seen, order) == (1, list(range(10)))
    await crew.close()


async def test_a_job_that_is_cancelled_while_it_waits_never_runs() -> None:
    crew = Crew(2)
    release, ran = threading.Event(), []
    first = asyncio.create_task(crew.run("account", "lane", 1, release.wait))
    second = asyncio.create_task(crew.run("account", "lane", 1, lambda: ran.append(2)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    release.set()
    await first
    await crew.close()
    assert ran == []

import actorq
from actorq.telemetry.prometheus import serve_metrics
async def f() -> None:
    async with actorq.open_system() as system, serve_metrics(system, "127.0.0.1:0") as metrics:
        print(metrics.url)

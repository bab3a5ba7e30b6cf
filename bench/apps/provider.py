"""A provider that answers after a second, in a process of its own: python -m bench.apps.provider PORT."""

import asyncio
import sys

from aiohttp import web


async def answer(request):
    asked = await request.json()
    await asyncio.sleep(1)
    return web.json_response({
        "id": "one", "object": "chat.completion", "created": 1, "model": asked["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    })  # fmt: skip


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)

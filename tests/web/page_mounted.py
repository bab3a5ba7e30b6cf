"""The pages inside of another application, as `uvicorn page_mounted:app` serves them."""

from fastapi import FastAPI

from agnt5.web import create_api

app = FastAPI()
app.mount("/ops", create_api(prefix="/agnt5"))


@app.get("/hello")
async def hello() -> str:
    """A route of the application's own."""
    return "hello"
